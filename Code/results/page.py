"""How a page is made: templates with escaping, a policy that lets nothing in from outside, written piece by piece."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
from markupsafe import Markup
from matplotlib.figure import Figure

from Code.results.figures import figure_bytes
from Code.results.gallery import bars_path
from Code.results.intervals import uar_interval
from Code.results.run_files import ReportError

TEMPLATES = Path(__file__).parent / "templates"


def write_page(path: Path, template: str, **context: Any) -> Path:
    """Renders a template into a file, piece by piece: generators in the context are drawn as the page grows.

    The page's own script is the only one that its policy lets run, by its hash.

    Args:
        path: of the page; it appears when it is whole.
        template: a file of `TEMPLATES`.

    Raises:
        ReportError: the template asks for something that the run's files do not have, or the page cannot be
            written.
    """
    script = (TEMPLATES / "gallery.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    context |= {
        "css": Markup((TEMPLATES / "base.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_hash": f"sha256-{digest}",
    }
    stream = _environment().get_template(template).stream(**context)
    stream.enable_buffering(256)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # A name that is no valid text in any encoding is shown with "?" in the place of its odd bytes.
        with draft.open("w", encoding="utf-8", errors="replace") as file:
            file.writelines(stream)
        draft.replace(path)
    except (KeyError, UndefinedError) as error:
        raise ReportError(
            f"{path.parent}: results.json or log.jsonl lacks {error}; was it written by this project?"
        ) from error
    except OSError as error:
        raise ReportError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def inline(figure: Figure) -> str:
    """A figure as a data URI: nothing to fetch, and nothing in it can reach the page around it."""
    return "data:image/svg+xml;base64," + base64.b64encode(figure_bytes(figure, "svg")).decode("ascii")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "plain": _plain, "bars": bars_path, "uar_range": _uar_range}
    return environment


def _percent(share: float | None, digits: int = 1) -> str:
    return "-" if share is None else f"{100 * share:.{digits}f}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _uar_range(metrics: dict[str, Any]) -> str:
    low, high = metrics.get("uar_interval") or uar_interval(metrics["confusion"])
    return f"95 % interval {100 * low:.1f} to {100 * high:.1f} %"
