"""One conversation in a file, as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from together_nb.errors import InputError
from together_nb.storage import files
from together_nb.storage.redact import without_keys
from together_nb.values import hooks
from together_nb.values.conversation import Conversation, read_conversation
from together_nb.values.from_json import UnfitError

if TYPE_CHECKING:
    from pathlib import Path

_EXAMPLE = "conversation.save('lesson.json')"


@hooks.save.register(Conversation)
def save(conversation: Conversation, path: str | Path) -> None:
    """Write a conversation to a new file, without the key."""
    file = files.checked_path(path, _EXAMPLE)
    text = (
        json.dumps(without_keys(one.to_dict())) for one in (conversation,)
    )  # lazy: `write` explains what is not JSON
    files.write(file, text, hint="Take another name, or delete it first.", check=Conversation.load)


@hooks.load.register(Conversation)
def load(_: type[Conversation], path: str | Path) -> Conversation:
    """Read the conversation in a file."""
    file = files.checked_path(path, _EXAMPLE)
    reason = "."
    try:
        return read_conversation(files.document(file))
    except UnfitError as error:
        reason = f": {error.message}"
    except files.BrokenError:
        pass
    raise InputError(f"{file} holds no conversation{reason}", "`Conversation.save` writes one.")
