"""Talks to the Hugging Face hub: checks that it answers, and uploads a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Literal

from p2r.errors import UserError

Kind = Literal["dataset", "model"]
LONGEST_REPLY = 5.0  # seconds that the hub has to answer


@contextmanager
def hub_errors(repository: str, kind: Kind, advice: str = "") -> Iterator[None]:
    """Turn errors of the hub's client into a `UserError` with advice.

    `advice` says what to do if the hub cannot be reached.
    """
    import httpx
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        yield
    except (httpx.TransportError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"the hub cannot be reached for the {kind} {repository!r} ({reason}): "
            f"{advice or 'check the network, HF_ENDPOINT and HF_HUB_OFFLINE, then try again'}"
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"the hub refused {repository!r} ({reason}): check its name and `hf auth login`"
        ) from error


@lru_cache
def check_hub_model(repository: str) -> None:
    """Raise `UserError` within seconds if a model is neither in the cache nor on the hub.

    Without this check, loading a model would try each of its files several times, for minutes.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(repository, "config.json"), str):
        return
    advice = "give the folder of a model, or connect this machine to the hub"
    with hub_errors(repository, "model", advice):
        HfApi().model_info(repository, timeout=LONGEST_REPLY)


def upload_folder(folder: Path, repository: str, kind: Kind, private: bool, option: str) -> str:
    """Upload a folder with the token from `hf auth login`; return the address.

    `option` is the option of the command that writes to a folder only; the error message names it.
    Raises `UserError` if the hub refuses the name or cannot be reached.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    advice = f"run the same command again later, or write the {kind} to a folder with {option}"
    with hub_errors(repository, kind, advice):
        url = hub.create_repo(repository, repo_type=kind, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repository, repo_type=kind, folder_path=folder)
    return str(url)
