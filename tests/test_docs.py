"""The manual tells the truth: its examples run, its specs and plans are valid, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from an8flower import spec as specs
from an8flower.__main__ import main
from an8flower.factors import FACTORS
from an8flower.generate import generate
from an8flower.store import FlowerStore
from an8flower.toml import parse

Run = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUICK = ("presets", "metrics", "archs")  # commands that take no time: they are run in every test run
SPEC = {"name": "x", "rows": {"train": 70, "val": 10, "test": 20}, "classes": {"petals.colour": ["red", "blue"]}}
PLAN = {"name": "x", "data": [{"spec": "single-6c"}], "models": [{"arch": "flowernet"}], "methods": ["gradcam"]}
SPEC_TABLES = {"classes", "nuisance", "shortcut"}  # a fragment with one of these belongs into a spec


def loaded(path: Path, name: str) -> types.ModuleType:
    """A module from a file that lies in no package; it finds those beside it."""
    description = importlib.util.spec_from_file_location(name, path)
    assert description is not None
    assert description.loader is not None
    module = importlib.util.module_from_spec(description)
    sys.path.insert(0, str(path.parent))
    try:
        description.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


manual = loaded(DOCS / "generate.py", "manual_pages")
MODULES = {"model.md": "my_model", "explainer.md": "my_explainer", "metric.md": "my_metric"}  # files that pages name
WRITTEN = sorted({path.name for path in DOCS.glob("*.md")} - set(manual.PAGES))


@pytest.fixture(autouse=True)
def _no_metrics_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The manual is made of what is built in, whatever other tests of this process have registered."""
    from an8flower.evaluate.registry import metrics

    metrics.names()  # which loads what is built in
    built_in = {name: entry for name, entry in metrics._entries.items() if not name.startswith("strange_")}
    monkeypatch.setattr(metrics, "_entries", built_in)


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str


def blocks(page: str, language: str) -> list[Block]:
    """The blocks of a page in one language."""
    text = (DOCS / page).read_text(encoding="utf-8")
    fenced = [Block(page, text[: match.start()].count("\n") + 2, match[1], match[2]) for match in FENCE.finditer(text)]
    return [block for block in fenced if block.language == language]


def commands(text: str) -> list[list[str]]:
    """The words of each command of a block; a backslash joins lines, a comment is left out."""
    return [words for line in text.replace("\\\n", " ").splitlines() if (words := shlex.split(line, comments=True))]


def all_blocks(language: str) -> list[Any]:
    """Every block of the manual in one language, named by page and line."""
    fenced = [block for page in WRITTEN for block in blocks(page, language)]
    return [pytest.param(block, id=f"{block.page}:{block.line}") for block in fenced]


def from_toml(text: str) -> dict[str, Any]:
    return dict(parse(text))


# What examples find in their folder.


@pytest.fixture(scope="session")
def trained(small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set with a classifier that has seen it once."""
    folder = tmp_path_factory.mktemp("small")
    return laid_down(folder, FlowerStore(small_file), epochs=1)


@pytest.fixture(scope="session")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with as many rows as the examples ask for, and a classifier that has learnt something."""
    folder = tmp_path_factory.mktemp("larger")
    made = generate(specs.load("single-6c").with_changes(rows=1800, size=40), folder / "made.h5")
    return laid_down(folder, FlowerStore(made.path), epochs=6)


def laid_down(folder: Path, store: FlowerStore, epochs: int) -> Path:
    """A folder as a reader of the manual has it: default data set and model, pictures and masks, names and weights."""
    from an8flower.evaluate.models.training import train

    (folder / "data").mkdir()
    shutil.copy(store.path, folder / "data" / "single-6c.h5")
    trained = train(FlowerStore(folder / "data" / "single-6c.h5"), "flowernet", epochs=epochs, device="cpu")
    trained.classifier.save(folder / "runs" / "single-6c" / "flowernet-seed0.safetensors")
    rows = store["train"].rows(0, 72)
    for i, (image, label, mask) in enumerate(zip(rows.images, rows.labels, rows.masks, strict=True)):
        for kind, picture in (("IMAGES", image), ("MASKS", np.where(mask > 0, 255, 0).astype(np.uint8))):
            place = folder / kind / store.class_names[label] / f"{i}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(place)
    for name in ("flower", "cat"):
        Image.fromarray(rows.images[0]).save(folder / f"{name}.png")
    (folder / "labels.txt").write_text("\n".join(store.class_names), encoding="utf-8")
    (folder / "imagenet.txt").write_text("\n".join(f"thing {i}" for i in range(1000)), encoding="utf-8")
    return folder


@pytest.fixture
def workspace(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own with all that a reader has."""
    return moved_in(trained, tmp_path, monkeypatch)


@pytest.fixture
def wide_workspace(larger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same with more rows, and with weights of a network of torchvision."""
    from safetensors.torch import save_file
    from torchvision.models import resnet18

    save_file(resnet18().state_dict(), larger / "resnet18.safetensors")
    return moved_in(larger, tmp_path, monkeypatch)


def moved_in(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(source, folder, dirs_exist_ok=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def unregistered() -> Iterator[None]:
    """What examples register is forgotten."""
    from an8flower.evaluate.registry import archs, explainers, metrics

    kept = [(registry, dict(registry._entries)) for registry in (archs, explainers, metrics) if registry.names()]
    path = list(sys.path)
    yield
    for registry, entries in kept:
        registry._entries = entries
    sys.path[:] = path


def laid_out(page: str, folder: Path) -> str:
    """Write what a page has its reader write, and give all its Python: specs and plans by name, and a module.

    The module holds the first block alone: what follows is typed elsewhere, and must not run whenever it is imported.
    """
    for block in blocks(page, "toml"):
        if "name" in (document := from_toml(block.text)):
            (folder / f"{document['name']}.toml").write_text(block.text, encoding="utf-8")
    texts = [block.text for block in blocks(page, "python")]
    (folder / f"{module_of(page)}.py").write_text("".join(texts[:1]), encoding="utf-8")
    return "\n\n".join(texts)


def module_of(page: str) -> str:
    """The name of the module that a page has its reader write."""
    return MODULES.get(page, "mine")


# The examples.


@pytest.mark.parametrize("page", WRITTEN)
@pytest.mark.usefixtures("unregistered")
def test_python_runs_and_quick_commands_do(page: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python of a page in one namespace, block after block; then the commands that take no time."""
    text = laid_out(page, workspace)
    name = module_of(page)
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    if text:
        exec(compile(text, str(workspace / f"{name}.py"), "exec"), module.__dict__)
    for block in blocks(page, "console"):
        for words in commands(block.text):
            if words[0] == "an8flower" and words[1] in QUICK and not is_large(words):
                done = CliRunner().invoke(main, words[1:])
                assert done.exit_code == 0, f"{page}:{block.line}: {done.output}"


@pytest.mark.parametrize("block", all_blocks("console"))
def test_commands_are_ones(block: Block) -> None:
    """Every option exists and takes what it is given; every method and metric that is named is known."""
    for words in commands(block.text):
        check_command(words)


@pytest.mark.parametrize("block", all_blocks("yaml"))
def test_workflows_are_valid(block: Block) -> None:
    """A workflow is YAML with jobs of steps, and its commands are ones of ours."""
    document = yaml.safe_load(block.text)
    steps = [step for job in document["jobs"].values() for step in job["steps"]]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    typed = [words for step in steps for words in commands(step.get("run", "")) if words[0] == "an8flower"]
    assert typed
    for words in typed:
        check_command(words)


def test_examples_of_help_are_commands() -> None:
    """The examples that --help shows are valid commands, and each command has one."""
    fenced = [match[2] for match in FENCE.finditer(manual.commands()) if match[1] == "console"]
    examples = [words for text in fenced for words in commands(text)]
    for words in examples:
        check_command(words)
    assert {words[1] for words in examples} == set(main.commands)


def check_command(words: list[str]) -> None:
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
    elif words[0] != "an8flower":
        assert words[0] == "pip", words
    elif words[1] != "--help":
        command = main.commands[words[1]]
        context = command.make_context(words[1], words[2:], **main.context_settings)
        check_names(context.params)


def check_names(options: dict[str, Any]) -> None:
    """Methods and metrics are known; those of a page's own module are checked where the page's Python is run."""
    from an8flower.evaluate.explaining.methods import parse_methods
    from an8flower.evaluate.metrics.naming import parse_metrics

    for word, read in (("methods", parse_methods), ("metrics", parse_metrics)):
        read([name for name in options.get(word) or () if name.split(":")[0] not in {"mine", *MODULES.values()}])


@pytest.mark.parametrize("block", all_blocks("toml"))
def test_toml_is_valid(block: Block) -> None:
    """A whole spec or plan as it stands, a fragment within the smallest one, entry points by their group."""
    document = from_toml(block.text)
    if "project" in document:
        groups = {f"an8flower.{kind}" for kind in ("archs", "explainers", "metrics")}
        assert set(document["project"]["entry-points"]) <= groups
    elif SPEC_TABLES & set(document):
        specs.from_mapping(SPEC | document, f"{block.page}:{block.line}", None)  # photographs are not looked for
    else:
        from an8flower.evaluate.audits import plan

        plan.from_mapping(PLAN | document, f"{block.page}:{block.line}")


def test_every_block_has_a_language() -> None:
    """A block that says not what it is is not tested either."""
    known = {"python", "console", "toml", "text", "json", "yaml"}
    for page in [*WRITTEN, *manual.PAGES]:
        for match in FENCE.finditer((DOCS / page).read_text(encoding="utf-8")):
            assert match[1] in known, f"{page}: a block in {match[1] or 'no language'}: {match[2][:40]}"


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in WRITTEN if blocks(page, "console")])
@pytest.mark.usefixtures("unregistered")
def test_all_commands_run(page: str, wide_workspace: Path, monkeypatch: pytest.MonkeyPatch, run_in: Run) -> None:
    """Every command of a page, in its order, in a process of its own; audits at their full size are left out."""
    text = laid_out(page, wide_workspace)
    name = module_of(page)
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(text, str(wide_workspace / f"{name}.py"), "exec"), module.__dict__)  # what it writes is there then
    for block in blocks(page, "console"):
        for words in commands(block.text):
            if words[0] == "an8flower" and not is_large(words):
                done = run_in(*words[1:], cwd=wide_workspace, check=False)
                assert done.returncode == 0, f"{page}:{block.line}: {shlex.join(words)}\n{done.stderr}"


def is_large(words: list[str]) -> bool:
    """Audits at their full size, and what needs them."""
    of_run = words[1] == "report" or (words[1] in ("metrics", "verify") and words[-1].startswith("runs/"))
    return of_run or (words[1] == "audit" and "--reduced" not in words)


# Pages made from the code.


@pytest.mark.parametrize("name", list(main.commands))
def test_every_command_has_a_section(name: str) -> None:
    text = manual.commands()
    section = text[text.index(f"\n## {name}\n") :].split("\n## ")[1]
    for parameter in main.commands[name].params:
        for option in parameter.opts if isinstance(parameter, click.Option) else ():
            assert option in section, f"{name} {option}"
    assert "Example" not in section, "examples stand in blocks of their own"


def test_a_new_command_is_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command(help="Water <every> flower. Twice.\n\n\b\nExample:  an8flower water --cans 2")
    @click.option("--cans", default=1, show_default=True, help="How many.")
    def water() -> None: ...

    monkeypatch.setitem(main.commands, "water", water)
    text = manual.commands()
    assert "| [`water`](#water) | Water &lt;every\\> flower |" in text
    assert "```console\nan8flower water --cans 2\n```" in text
    assert "| `--cans INTEGER` | How many. (default: 1) |" in text


def test_every_metric_method_and_preset_has_a_section() -> None:
    from an8flower.evaluate.registry import archs, explainers, metrics

    pages = {"metrics": manual.metric_cards(), "methods": manual.methods(), "presets": manual.presets()}
    for name in metrics.names():
        assert f"\n### {name}\n" in pages["metrics"]
        assert f"[`{name}`](#{name})" in pages["metrics"]
    for name in explainers.names():
        assert f"\n### {name}\n" in pages["methods"]
    for name in specs.presets():
        assert f"\n## {name}\n" in pages["presets"]
    for name in archs.names():
        assert f"`{name}`" in manual.archs()


def test_parameters_say_what_they_are() -> None:
    """The words behind a field stand in the table, those of a field that is inherited as well."""
    text = manual.methods()
    assert "| `steps` | `50` |  |" in text
    assert "| `width` | `0.25` | 0.1 to 0.5 | standard deviation, as a share of the image's side |" in text


def test_every_key_of_a_spec_is_explained() -> None:
    keys = (DOCS / "spec.md").read_text(encoding="utf-8").split("## Keys")[1].split("\n## ")[0]
    for name in specs.DatasetSpec.model_fields:
        assert re.search(rf"`\[?{name}\]?`", keys), name
    assert all(f"`{name}`" in manual.factors() for name in FACTORS)


def test_every_key_of_a_plan_is_explained() -> None:
    from an8flower.evaluate.audits import plan

    text = manual.plan()
    tables = plan.tables()
    for kind in tables.values():
        for name in kind.model_fields:
            assert f"| `{name}` |" in text, name
    known = {f"{key}.{name}" for key, kind in tables.items() for name in kind.model_fields}
    assert set(loaded(DOCS / "plan_tables.py", "manual_plans").KEYS) == known


def test_every_section_and_column_of_the_page_is_explained() -> None:
    from an8flower.evaluate.report import sections
    from an8flower.evaluate.report.leaderboard import COLUMNS

    text = (DOCS / "report.md").read_text(encoding="utf-8")
    titles = re.findall(r'(?:Section|_plots)\(\s*"\w+", "([^"]+)"', Path(sections.__file__).read_text(encoding="utf-8"))
    assert len(titles) > 10
    assert set(titles) <= set(re.findall(r"^## (.+)$", text, re.MULTILINE))
    explained = {name for row in re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE) for name in row.split(", ")}
    assert {column.title for column in COLUMNS} <= explained


def test_tables_that_pages_ask_for_are_there() -> None:
    wanted = {name for page in WRITTEN for name in re.findall(r"<!-- table: (.*?) -->", (DOCS / page).read_text())}
    assert wanted == set(manual.TABLES)


def test_nothing_in_the_repository_is_stale() -> None:
    """Pages, tables and pictures lie in the repository as the code makes them today."""
    assert not manual.stale(), "run `python docs/generate.py`, which `make docs` does as well"


def test_the_api_page_has_every_name_of_the_door() -> None:
    """Each name with its docstring; an argument that a docstring explains stands in a table."""
    from an8flower import evaluate

    text = manual.api()
    assert sorted(re.findall(r"^### (\w+)$", text, re.MULTILINE)) == sorted(evaluate.__all__)
    assert "| `normalise` | " in text
    assert "| `Refusal` | " in text
    assert not re.search(r"ForwardRef|<function| at 0x|^(Args|Raises):$", text, re.MULTILINE)


def test_docstrings_become_tables_and_blocks() -> None:
    text = """Count the petals.

    Twice, to be sure.

    >>> count("rose")
    5

    Args:
        flower, pot: what is counted,
            and where.

    Raises:
        Refusal: it has none.
    """
    parts = list(loaded(DOCS / "api_page.py", "manual_api").docstring(inspect.cleandoc(text)))
    assert parts == [
        "Count the petals.\n\nTwice, to be sure.",
        '```python\ncount("rose")\n# 5\n```',
        "| argument | what it is |\n| --- | --- |\n| `flower`, `pot` | what is counted, and where. |",
        "| raises | when |\n| --- | --- |\n| `Refusal` | it has none. |",
    ]


@pytest.mark.parametrize("page", [path.name for path in sorted(DOCS.glob("*.md"))])
def test_a_page_reads_well_where_it_lies(page: str) -> None:
    """On a code host: no link to what only the build makes, no syntax that only mkdocs knows."""
    text = FENCE.sub("", (DOCS / page).read_text(encoding="utf-8"))
    for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (DOCS / link).is_file(), f"{page}: {link}"
    assert not re.search(r"^(\?\?\?|!!!|:   )|\{: #", text, re.MULTILINE), page


# The whole.


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manual, built as `make docs` builds it; every warning is an error."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    site = tmp_path_factory.mktemp("site")
    # Without --quiet, which hides warnings from what --strict counts.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=quiet)
    assert done.returncode == 0, done.stdout + done.stderr
    return site


def test_it_builds_and_its_links_hold(built: Path) -> None:
    """mkdocs checks every link and anchor; pages that are made and pages that are written are all there."""
    for name in {*WRITTEN, *manual.PAGES}:
        assert (built / name.replace(".md", ".html")).is_file(), name
    for name in specs.presets():
        assert (built / "presets" / f"{name}.jpg").read_bytes().startswith(b"\xff\xd8")
    assert not list(built.rglob("*.py"))


def test_it_loads_nothing_from_elsewhere(built: Path) -> None:
    """No font, script, style or picture of another host: the manual can be read on a train."""
    loads = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")
    for page in built.rglob("*.html"):
        elsewhere = loads.findall(page.read_text(encoding="utf-8"))
        assert not elsewhere, f"{page.name}: {elsewhere}"
    for style in built.rglob("*.css"):
        assert not re.findall(r"url\([\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style.name


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "data/README.md"])
def test_links_beside_the_manual_hold(name: str) -> None:
    place = ROOT / name
    for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", place.read_text(encoding="utf-8")):
        assert (place.parent / link).exists(), f"{name}: {link}"
