"""Upload a folder to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from p2r.errors import UserError


def upload_folder(
    folder: Path, repository: str, kind: Literal["dataset", "model"], private: bool, option: str
) -> str:
    """Upload a folder with the token from `hf auth login`; return the address.

    `option` is the option of the command that writes to a folder only; the error message names it.
    Raises `UserError` if the hub refuses the name or cannot be reached.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    hub = HfApi()
    try:
        url = hub.create_repo(repository, repo_type=kind, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repository, repo_type=kind, folder_path=folder)
    except (HfHubHTTPError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"the hub refused {repository!r} ({reason}): check its name and `hf auth login`"
        ) from error
    except httpx.TransportError as error:
        raise UserError(
            f"the hub cannot be reached ({error}): run the same command again later, or write the "
            f"{kind} to a folder with {option}"
        ) from error
    return str(url)
