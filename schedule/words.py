"""The words of messages, in the languages of those who get them (pure)."""

from __future__ import annotations

from collections.abc import Mapping

# Of each language: subject, body.
_WORDS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "reminder": {
        "zh": (
            "提醒：{title} {when}",
            "{title}\n时间：{when}（{zone}），{minutes} 分钟\n{link}",
        ),
        "en": (
            "Reminder: {title}, {when}",
            "{title}\n{when} ({zone}), {minutes} minutes\n{link}",
        ),
    },
    "invitation": {
        "zh": (
            "邀请：{title} {when}",
            "{unit} 邀请贵单位参加：{title}\n时间：{when}（{zone}）\n请回复：{link}",
        ),
        "en": (
            "Invitation: {title}, {when}",
            "{unit} invites your unit to: {title}\n{when} ({zone})\nPlease answer: {link}",
        ),
    },
    "overridden": {
        "zh": (
            "时间冲突：{title} {when}",
            "上级单位的安排与 {title}（{when}）冲突，上级优先，请调整。\n{link}",
        ),
        "en": (
            "Clash: {title}, {when}",
            "A higher unit has planned over {title} ({when}) and goes first.\n"
            "Please move it.\n{link}",
        ),
    },
    "overrun": {
        "zh": (
            "是否延长：{title}",
            "{title} 已到结束时间，但仍在进行，之后另有安排。\n延长或结束：{link}",
        ),
        "en": (
            "Still on the air: {title}",
            "{title} is past its end and still on, and something else comes next.\n"
            "Extend or end it: {link}",
        ),
    },
}


def say(kind: str, language: str, values: Mapping[str, str]) -> tuple[str, str]:
    """The subject and the body of a message; Chinese for zh, English for all others.

    What people wrote is filled in as it is, never read as a pattern.
    """
    subject, body = _WORDS[kind]["zh" if language.startswith("zh") else "en"]
    return subject.format_map(values), body.format_map(values).strip()
