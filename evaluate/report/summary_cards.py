"""The two cards of an audit in Markdown: what the models are and rely on, and which explanations the numbers support.

Their sections follow model cards; where Annex IV of Regulation (EU) 2024/1689 asks for such information, its point is
named. They say what was measured, and claim nothing about the law.

Source: Mitchell et al.: Model Cards for Model Reporting, FAT* 2019 (sections of a card).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from an8flower.atomic import moved_into
from an8flower.errors import Refusal

from ..results.certificate_words import describe
from ..results.change_words import count_changes
from ..results.manifest import CARDS
from ..results.pull_request import count_outcomes
from ..results.sanity_outcomes import outcome_shown
from .boards import BoardEntry, BoardView, boards_of
from .markdown import Written, code, escape_markdown, join_code, markdown_templates
from .numbers import calibrated_interval, number, percent
from .page import OPTIONAL, UNREADABLE, replace_unprintable
from .reading import AuditFolder
from .study import StudyView
from .verdict import reliance, verdict

ANNEX = {
    "1(a)": "the name of the provider, the intended purpose of the system, its version and earlier ones",
    "1(b), (d) to (h)": "how the system interacts with others, its forms, hardware, products, interface, instructions",
    "2(e)": "which human oversight is needed; the explanation card has what explanations can add to it",
    "2(f)": "changes that are determined in advance",
    "2(h)": "cybersecurity measures",
    "3": "accuracy for persons or groups of persons, risks to health, safety and fundamental rights",
    "5": "the risk management system",
    "7": "harmonised standards and other specifications that were applied",
    "8": "the EU declaration of conformity",
    "9": "how performance is evaluated once the system is on the market",
}
"""What Annex IV asks for and an audit cannot know, by the points."""


def write_cards(folder: Path) -> list[Path]:
    """Write `model_card.md` and `explanation_card.md` from the summary of an audit, beside its page.

    The same summary gives the same bytes. Raises Refusal if the summary is missing or damaged.
    """
    source = AuditFolder(folder)
    try:
        summary = OPTIONAL | replace_unprintable(source.summary)
        studies = [StudyView(i, document) for i, document in enumerate(summary["studies"])]
        texts = [_render(name, facts(studies, summary)) for name in CARDS]
    except UNREADABLE as error:
        raise Refusal(
            f"{folder / 'summary.json'}: not a summary that this version can read ({type(error).__name__}: {error}); "
            "run the audit again: what is done already is not done twice"
        ) from error
    for name, text in zip(CARDS, texts, strict=True):
        with moved_into(folder / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8", errors="xmlcharrefreplace")
    return [folder / name for name in CARDS]


def _render(name: str, values: Mapping[str, Any]) -> str:
    return markdown_templates().get_template(f"{name}.j2").render(**values)


def facts(studies: Sequence[StudyView], summary: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the templates of the two cards show."""
    truth, best, care = verdict(studies, summary)
    requirements = summary.get("requirements") or []
    against = summary.get("against")
    return {
        "summary": summary,
        "title": summary["title"] or summary["name"],
        "annex": ANNEX,
        "verdict": {"truth": truth, "best": best, "care": care},
        "data": [row for study in studies for row in _data_row(study)],
        "models": [row for study in studies for row in _model_rows(study)],
        "training": [_training_row(entry) for entry in summary["plan"].get("models") or ()],
        "recipes": _recipe_rows(studies),
        "certificates": [text for study in studies for text in _certificates(study)],
        "supported_models": [text for study in studies for text in _supported_models(study)],
        "open_models": [text for study in studies for text in _open_models(study)],
        "asked": [_question(study) for study in studies],
        "supported": [text for study in studies for text in _list_supported(study)],
        "open": [text for study in studies for text in _list_open(study)],
        "metrics": _metric_rows(studies),
        "costs": [row for study in studies for row in _cost_rows(study)],
        "warnings": [text for study in studies for text in study.scores.get("warnings") or ()],
        "gaps": [text for study in studies for text in _gaps(study)],
        "requirements": requirements,
        "required": count_outcomes(requirements) if requirements else "",
        "against": against,
        "changed": count_changes(against) if against else "",
    }


# The models.


def _data_row(study: StudyView) -> Iterator[list[Any]]:
    data = study.document["dataset"]
    kind = "rendered from a spec: masks are exact" if data.get("has_spec") else "not rendered: masks are annotations"
    names = ", ".join(map(str, data.get("class_names") or ()))
    rows = f"{data.get('rows')} of {data.get('split')}, {data.get('size')} px"
    yield [study.name, data.get("title") or "", rows, names, kind, code(str(data.get("digest"))[:16])]


def _model_rows(study: StudyView) -> Iterator[list[Any]]:
    for model in study.scores.get("models") or ():
        stated = (model.get("accuracy_check") or {}).get("stated")
        accuracy = f"{percent(model['accuracy'])} of the {study.document['dataset'].get('rows')} rows"
        yield [study.name, *_name_model(model), code(str(model["digest"])[:16]), accuracy, percent(stated)]


def _name_model(model: Mapping[str, Any]) -> list[Any]:
    return [code(model["arch"]), "-" if model["seed"] is None else model["seed"]]


def _training_row(entry: Mapping[str, Any]) -> list[Any]:
    """What a plan says of models: trained for the audit, or brought along."""
    if entry.get("arch") is None:
        weights = entry.get("weights")
        return [code(entry.get("source")), "not trained here" + (f"; weights from {weights}" if weights else "")]
    settings = {
        "seeds": ", ".join(map(str, entry.get("seeds") or ())),
        **{key: entry.get(key) for key in ("epochs", "learning_rate", "init", "freeze")},
    }
    words = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in settings.items() if value not in (None, ""))
    return [code(entry["arch"]), f"trained on the training rows of the data: {words}"]


def _recipe_rows(studies: Sequence[StudyView]) -> list[list[Any]]:
    """The recipe that each model's file states, once for all seeds and data sets that were trained by it."""
    models = [model for study in studies for model in study.scores.get("models") or () if model.get("recipe")]
    return [
        [code(arch), recipe] for arch, recipe in dict.fromkeys((model["arch"], model["recipe"]) for model in models)
    ]


def _certificates(study: StudyView) -> Iterator[str]:
    certificates = study.document.get("certificates") or ()
    yield from (f"On {study.name}, {describe(certificate)}" for certificate in certificates)
    if not certificates:
        yield f"On {study.name}: no certificate, {study.document.get('no_certificate') or 'since none was asked for'}."


def _supported_models(study: StudyView) -> Iterator[str]:
    for certificate in study.document.get("certificates") or ():
        if reliance(certificate) == "yes":
            model = certificate["model"]
            yield f"{model} relies on the designed evidence of {study.name}, for other rows of these data."


def _open_models(study: StudyView) -> Iterator[str]:
    words = {
        "part": "relies on the designed evidence for more than a part of its predictions",
        "no": "relies on the designed evidence: it does not",
        "unknown": "relies on the designed evidence",
    }
    for certificate in study.document.get("certificates") or ():
        if (outcome := reliance(certificate)) != "yes":
            yield f"That {certificate['model']} {words[outcome]}."
    if not study.document.get("certificates"):
        yield f"What the models of {study.name} rely on: it was not measured."


# The explanations.


def _question(study: StudyView) -> dict[str, Any]:
    data = study.document["dataset"]
    return {
        "name": study.name,
        "rows": data.get("rows"),
        "split": data.get("split"),
        "target": "the class that was predicted" if study.scores.get("target") == "predicted" else "the row's label",
        "methods": join_code(method.text for method in study.methods if not method.control),
        "controls": join_code(method.text for method in study.methods if method.control),
        "leading": join_code(study.all_leading),
    }


def _list_supported(study: StudyView) -> Iterator[str]:
    """What the numbers say of methods: who is best by each leading metric and better than the best control."""
    for board in _single_boards(study):
        for metric in study.all_leading:
            yield from _best_group(board, metric)
    if passed := _by_sanity(study)["pass"]:
        name = escape_markdown(study.name)
        yield Written(f"On {name}, every sanity test with a verdict is passed by {join_code(passed)}.")


def _single_boards(study: StudyView) -> list[BoardView]:
    """The boards of one architecture each."""
    return [board for board in boards_of(study) if len(board.document["architectures"]) <= 1]


def _best_group(board: BoardView, metric: str) -> Iterator[str]:
    """The best method of a board, what cannot be told from it, and which methods are above the best control."""
    methods = [entry for entry in board.rank(metric) if not entry.control]
    if not methods:
        return
    above = [entry.text for entry in methods if _beats_control(board, metric, entry)]
    if not above:
        return
    place = calibrated_interval(board.numbers(metric, methods[0]))
    score = f" ({_interval_words(place)})" if place else ""
    ties = board.ties(metric, methods[0])
    tied = [entry.text for entry in methods if entry.method.text in ties]
    cannot = f"; {join_code(tied)} cannot be told from it" if tied else ""
    yield Written(
        f"{_where(board)}, by {code(metric)}: {code(methods[0].text)} is first{score}{cannot}. Better than the best "
        f"control: {join_code(above)}."
    )


def _interval_words(place: Any) -> str:
    return f"{number(place.mean, 2)} on the scale from chance, 0, to the truth, 1; 95 %: {number(place.low, 2)} to " + (
        number(place.high, 2)
    )


def _beats_control(board: BoardView, metric: str, entry: BoardEntry) -> bool:
    return "best control" in board.better_than(metric, entry)


def _where(board: BoardView) -> str:
    return f"On {escape_markdown(board.study.name)}{f', {escape_markdown(board.title)}' if board.title else ''}"


def _list_open(study: StudyView) -> Iterator[str]:
    for board in _single_boards(study):
        for metric in study.all_leading:
            entries = [entry for entry in board.rank(metric) if not entry.control]
            below = [entry.text for entry in entries if not _beats_control(board, metric, entry)]
            if below:
                shown = f"that the maps of {join_code(below)} are better than the best control"
                yield Written(f"{_where(board)}, by {code(metric)}: {shown}.")
        if sentence := board.trained_anew(study.leading or "").get("sentence"):
            yield Written(f"{_where(board)}: {escape_markdown(sentence)}")
    if failed := _by_sanity(study)["fail"]:
        name = escape_markdown(study.name)
        yield Written(f"On {name}: that the maps of {join_code(failed)} follow the model, since a sanity test fails.")


def _by_sanity(study: StudyView) -> dict[str, list[str]]:
    """The methods, controls aside, that pass all sanity tests with a verdict on all models, and that fail one."""
    words: dict[str, set[str]] = {}
    for document in study.document.get("sanity") or ():
        for result in document["results"]:
            shown = {outcome_shown(verdict)[0] for verdict in result["verdicts"].values()}
            words.setdefault(str(result.get("text") or result["method"]), set()).update(shown)
    controls = {method.text for method in study.methods if method.control}
    methods = {method: shown for method, shown in words.items() if method not in controls}
    return {
        "pass": [method for method, shown in methods.items() if shown - {"no verdict"} == {"pass"}],
        "fail": [method for method, shown in methods.items() if "fail" in shown],
    }


def _metric_rows(studies: Sequence[StudyView]) -> list[list[Any]]:
    """Each metric with what it measures, and when it is undefined."""
    cards = {card["name"]: card for study in studies for card in study.scores.get("cards") or ()}
    keys = ("family", "definition", "undefined", "source")
    return [[code(name), *(str(card.get(key, "")) for key in keys)] for name, card in cards.items()]


def _cost_rows(study: StudyView) -> Iterator[list[Any]]:
    for method in study.methods:
        cost = method.result["cost"]
        seconds = "-" if cost.get("seconds") is None else f"{1000 * cost['seconds']:.1f}"
        passes = [number(cost.get(key), 1) for key in ("forwards", "backwards")]
        yield [study.name, code(method.text), seconds, *passes]


def _gaps(study: StudyView) -> Iterator[str]:
    """What was skipped or left out, a sentence each."""
    for entry in study.scores.get("skipped") or ():
        yield f"{entry.get('method')} was skipped on {entry.get('model', study.name)}: {entry['reason']}."
    for entry in study.scores.get("left_out") or ():
        yield f"{entry.get('metric')} was left out on {study.name}: {entry['reason']}."
