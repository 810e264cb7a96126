"""Configuration: frozen pydantic models read from TOML, unknown keys refused.

Each model stands beside the code that it configures; this file holds what they share.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ffr_core.errors import ConfigError


class Config(BaseModel):
    """Base of all configuration models: frozen, no unknown keys, attribute docstrings as help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def parse(cls, values: dict[str, Any], where: str) -> Self:
        """Validate values; ConfigError lists every problem at once.

        Args:
            values: Parsed TOML or JSON.
            where: Name of the source, for the message.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in item['loc']) or 'value'}: {item['msg']}"
                f" (found {item['input']!r:.60})"
                for item in error.errors()
            )
            raise ConfigError(f"{where}: {problems}; known keys: {_keys(cls)}") from error

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a TOML file."""
        return cls.parse(read_toml(path), str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; ConfigError says where it is wrong."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no configuration file {path}; check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _keys(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)
