"""A study's optuna parts: its file, and the pruner that stops trials early."""

from __future__ import annotations

import os
import sqlite3
from functools import partial
from pathlib import Path

import optuna
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from meta_rl.errors import InputError


def open_storage(file: Path) -> optuna.storages.RDBStorage:
    """Open a study's SQLite file, or make it.

    Raises:
        InputError: if the path holds something other than a study.
    """
    if os.path.exists(file) and not os.path.isfile(file):  # opening a named pipe waits for writers
        raise InputError(
            f"out: expected a study in {file}, got no regular file. Give another --out."
        )
    try:
        # A creator and not a URL of the path, because ? and % have a meaning in URLs. Without a
        # pool no connection outlives its use, even if the file is not a database.
        connect = partial(sqlite3.connect, file, timeout=60, check_same_thread=False)
        return optuna.storages.RDBStorage(
            f"sqlite:///{file.name}", {"creator": connect, "poolclass": NullPool}
        )
    except (SQLAlchemyError, RuntimeError) as error:
        what = str(error).splitlines()[0]
        raise InputError(
            f"out: expected a study in {file}, got {what}. Give another --out."
        ) from error


def pruner(keep: int) -> optuna.pruners.BasePruner:
    """Return the pruner that keeps one of ``keep`` trials at each rung; its steps are rungs."""
    if keep == 1:
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=keep)
