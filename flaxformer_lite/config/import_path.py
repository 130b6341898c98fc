"""Import paths ``module:name``: classes and functions of the user's own packages that the config names as a kind."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import sys
import traceback
import types
import typing
from collections.abc import Mapping
from typing import Any

from flaxformer_lite.config.parse_value import parse_value
from flaxformer_lite.config.value_types import LIST_OPTIONS_KEYS, OPTIONS_KEYS, is_import_path
from flaxformer_lite.errors import InputError, require

__all__ = ["build", "is_import_path", "load_target"]


def load_target(path: str, key: str) -> Any:
    """Imports the module of ``module:name``, the value of a dotted config key, and returns the class or function.

    Raises:
      InputError: the module or the name does not exist, or the module raises while it is imported.
    """
    subject = f"config.{key}={path!r}"
    require(is_import_path(path), subject, "must be an import path module:name")
    module_name, _, name = path.partition(":")
    try:
        target = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _import_failed(subject, module_name, error) from error  # the module imports one that is missing
        remedy = "install its package, or run where the module can be imported"
        raise InputError(subject, f"there is no module {error.name}", remedy) from error
    except (Exception, SystemExit) as error:
        raise _import_failed(subject, module_name, error) from error
    for part in name.split("."):
        if not hasattr(target, part):
            near = difflib.get_close_matches(part, dir(target), n=1)
            remedy = f"did you mean {near[0]}?" if near else ""
            raise InputError(subject, f"{module_name} has no {name}", remedy)
        target = getattr(target, part)
    return target


def build(path: str, options: Mapping[str, Any], key: str, **provided: Any) -> Any:
    """Builds what an import path names.

    A dataclass (a Linen module is one) is instantiated: the framework fills those of its fields that ``provided``
    names; all other fields are its options, typed, bounded and checked as config keys are. A function has no options
    and is returned as it is. ``key`` is the dotted config key that names the path, such as ``data.task``.

    Raises:
      InputError: the target does not exist or is neither dataclass nor function; an option is unknown, missing or
        ill-typed, which the message names as the config does; or the target refuses its options.
    """
    target, name = load_target(path, key), f"config.{_options_key(key, path)}"
    if inspect.isfunction(target) or inspect.isbuiltin(target):
        require(not options, f"{name}={dict(options)!r}", f"{path} is a function, which has no options")
        return target
    if not (isinstance(target, type) and dataclasses.is_dataclass(target)):
        raise InputError(f"config.{key}={path!r}", f"must name a dataclass or a function, got {target!r}")
    fields = {field.name: field for field in dataclasses.fields(target) if field.init}
    own = [field for field in fields if field not in provided and not _is_of_linen(target, field)]
    for option in options:
        if option not in own:
            near = difflib.get_close_matches(option, own, n=1) or own
            remedy = f"did you mean {near[0]}?" if len(near) == 1 else f"its options are {', '.join(own) or '(none)'}"
            raise InputError(f"{name}.{option}", f"{path} has no such option", remedy)
    for option in own:
        field = fields[option]
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        require(optional or option in options, f"{name}.{option}", f"is missing; {path} has no default for it")
    values = {
        option: parse_value(_field_type(target, option), value, f"{name}.{option}") for option, value in options.items()
    }
    try:
        return target(**{field: value for field, value in provided.items() if field in fields}, **values)
    except (ValueError, TypeError) as error:  # of __post_init__
        raise InputError(f"{name}={dict(options)!r}", f"{path} refuses it: {error}") from error


def _options_key(key: str, path: str) -> str:
    if key in LIST_OPTIONS_KEYS:
        return f"{LIST_OPTIONS_KEYS[key]}.{path.rpartition(':')[2]}"
    return OPTIONS_KEYS.get(key) or f"{key.rpartition('.')[0]}.options"


def _import_failed(subject: str, module: str, error: BaseException) -> InputError:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{frame.filename}, line {frame.lineno}"
    return InputError(subject, f"importing {module} failed: {type(error).__name__}: {error} ({where})")


def _is_of_linen(target: type, field: str) -> bool:
    """Whether flax adds this field to every Linen module."""
    return field in ("parent", "name") and any(base.__module__.startswith("flax.linen") for base in target.__mro__)


def _field_type(target: type, field: str) -> Any:
    """The type of one field; the others may have types that cannot be resolved at run time."""
    owner = next(base for base in target.__mro__ if field in inspect.get_annotations(base))
    alone = types.SimpleNamespace(__annotations__={field: inspect.get_annotations(owner)[field]})
    namespace = vars(sys.modules[owner.__module__])
    return typing.get_type_hints(alone, globalns=namespace, include_extras=True)[field]
