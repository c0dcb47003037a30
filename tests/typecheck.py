"""The run-time type checker of the tests: as beartype, but an int may stand where a float is asked for."""

from beartype import BeartypeConf, beartype

typecheck = beartype(conf=BeartypeConf(is_pep484_tower=True))
