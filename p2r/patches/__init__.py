"""Every change that p2r makes in other libraries, one file each.

| file                      | library       | applied by                                          |
|---------------------------|---------------|-----------------------------------------------------|
| `accelerate_fsdp2`        | accelerate 1.15 | `p2r.training`                                    |
| `gradio_start`            | Gradio 6.31   | `p2r app`                                           |
| `torchvision_operators`   | torchvision   | `p2r.data`, `p2r.training`, vLLM's subprocesses     |
| `transformers_tokenizers` | transformers  | `p2r.data`                                          |
| `trl_fsdp2`               | TRL 1.16      | `p2r.training`                                      |
| `trl_vllm`                | TRL 1.16      | `p2r.training`                                      |
| `vllm_positions`          | vLLM 0.31     | the vLLM engine, vLLM's subprocesses                |
| `vllm_weights`            | vLLM 0.31     | the vLLM engine, vLLM's subprocesses                |

`import p2r` applies none of them. Each file says why the change is needed and when it can go; its
test in `tests/patches/` fails as soon as the library no longer needs it.
"""
