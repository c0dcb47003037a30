"""Choose which columns of a table are read, and under which names."""

from __future__ import annotations

from collections.abc import Mapping

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError
from tofae_jax.data.files.file_errors import listing
from tofae_jax.data.files.hit_rows import HIT_LIST_COLUMNS
from tofae_jax.data.files.layout import EVENT_PREFIX, KEY_PREFIX, OWN_PREFIX, TRACK_PREFIX, Layout
from tofae_jax.data.files.tables import Column, HitRules, Table

_RESERVED = (OWN_PREFIX, KEY_PREFIX)


def choose_columns(table: Table, rules: HitRules) -> tuple[dict[str, str], Layout]:
    """Return the names in the file of all columns to read, by their names in `Events`; and how the file lays them out.

    Columns that cannot be read, and were not asked for, are noted in `rules.reading.left_out`.

    Raises:
        DataError: a column is missing, or of a type that it cannot have.
    """
    where = f"{table.name}: " if table.name else ""
    is_list = _is_list_layout(table, rules, where)
    needed = {**_keys(table, rules, where, is_list=is_list), **{name: rules.names[name] for name in "xyt"}}
    for name, column in needed.items():
        _check_numbers(_column(table, column, where, _use(name, column)), column, where)
    _check_distinct(needed, where)
    further = _further(table, rules, set(needed.values()), is_list, where)
    types = {name: table.columns[needed[name]].dtype for name in HIT_LIST_COLUMNS if name in needed}
    names = {name: column for name, column in {**needed, **further}.items() if name != column}
    layout = Layout(
        names=names if "event" in needed or len(rules.keys) > 1 else {**names, "event": ""},
        types={name: dtype.newbyteorder("=") for name, dtype in types.items() if dtype is not None},
        order=tuple(table.columns),
        is_list=is_list,
        table=table.own_name,
        delimiter=table.delimiter,
        decimal=rules.decimal,
    )
    return {**needed, **further}, layout


def _check_distinct(needed: Mapping[str, str], where: str) -> None:
    uses: dict[str, str] = {}
    for name, column in needed.items():
        use = "event" if name.startswith(KEY_PREFIX) else name
        if column in uses:
            raise DataError(
                f"{where}column {column} is chosen for {uses[column]} and for {use}; a column of its own each"
            )
        uses[column] = use


def _use(name: str, column: str) -> str:
    return f" for {name}" if column != name and not name.startswith(KEY_PREFIX) else ""


def _keys(table: Table, rules: HitRules, where: str, *, is_list: bool) -> dict[str, str]:
    """Return the columns that number the events, by their names in `Events`."""
    if len(set(rules.keys)) < len(rules.keys):
        raise DataError(f"{where}{', '.join(rules.keys)} number the events; each column once expected")
    if len(rules.keys) > 1:
        found = {f"{KEY_PREFIX}{name}": name for name in rules.keys}
    elif not is_list or (rules.keys and (tuple(rules.keys) != ("event",) or "event" in table.columns)):
        found = {"event": rules.keys[0] if rules.keys else ""}
    else:
        return {}  # the rows are the events and are counted
    if found.get("event") == "":
        raise DataError(f"{where}has one row per hit: a column that numbers the events is needed")
    for column in found.values():
        name = "event" if len(found) == 1 else column
        if is_list and _column(table, column, where, _use(name, column)).is_list:
            raise DataError(
                f"{where}column {column} has a list per row, x, y and t too; one event number per row expected"
            )
    return found


def _check_numbers(found: Column, column: str, where: str) -> None:
    if found.problem is not None:
        raise DataError(f"{where}{found.problem()}")
    if found.dtype is None or found.dtype.kind not in "iuf":
        raise DataError(f"{where}column {column} is of type {one_line(found.shown)}; integers or floats expected")


def _is_list_layout(table: Table, rules: HitRules, where: str) -> bool:
    found = {name: _column(table, rules.names[name], where, _use(name, rules.names[name])) for name in "xyt"}
    is_list = {name: column.is_list for name, column in found.items()}
    if len(set(is_list.values())) > 1:
        kinds = ", ".join(f"{rules.names[name]} {one_line(column.shown)}" for name, column in found.items())
        raise DataError(
            f"{where}x, y and t have to be lists, one row per event, or all numbers, one row per hit: {kinds}"
        )
    return is_list["x"]


def _column(table: Table, name: str, where: str, use: str = "") -> Column:
    if name not in table.columns:
        shown = listing(list(table.columns)) or "none"
        raise DataError(f"{where}no column {name!r}{use}; it has {shown} (--columns gives other names)")
    return table.columns[name]


def _further(table: Table, rules: HitRules, used: set[str], is_list: bool, where: str) -> dict[str, str]:
    """Return the names of the columns besides `event, x, y, t`, by their names in `Events`."""
    further: dict[str, str] = {}
    for name in table.columns if rules.further is None else rules.further:
        column = _column(table, name, where)
        can_be_read = column.dtype is not None and column.dtype.kind in "biuf" and (is_list or not column.is_list)
        if name in used:
            continue
        if not can_be_read and rules.further is not None:
            problem = column.problem() if column.problem is not None else ""
            raise DataError(
                f"{where}{problem or f'column {name} is of type {one_line(column.shown)}; numbers expected'}"
            )
        if not can_be_read:
            rules.reading.left_out[name] = column.shown
        elif column.problem is not None:
            raise DataError(f"{where}{column.problem()}")
        else:
            further[_free_name(name, further)] = name
    return further


def _free_name(name: str, taken: Mapping[str, str]) -> str:
    """Return a name within `Events`: `x` is taken where --columns.x names another column."""
    bare = name.removeprefix(EVENT_PREFIX)
    is_taken = bare == "event" or name in (EVENT_PREFIX, TRACK_PREFIX, *HIT_LIST_COLUMNS)
    free = f"{name}_" if is_taken else name
    if bare.startswith(_RESERVED):  # `own.x` of a file is none of ours
        free = name.removesuffix(bare) + bare.replace(".", "_", 1)
    while free in taken:
        free += "_"
    return free
