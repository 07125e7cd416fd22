"""Actors that were renamed, and still run what was sent to their old names."""

from typing import Any

from dramatiq import Actor, Broker, Middleware

from errors import InvalidActor


class Aliases(Middleware):
    """Knows which actor runs the messages of a name that no actor has any more.

    Actor option:
      aliases: a list of the actor's former names.  A name of, or an alias of, another actor is refused.
    """

    def __init__(self) -> None:
        self.actors: dict[str, str] = {}  #: alias -> the actor's name

    @property
    def actor_options(self) -> set[str]:
        return {"aliases"}

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        name, aliases = actor.actor_name, actor.options.get("aliases", ())
        if not isinstance(aliases, (list, tuple)) or not all(isinstance(x, str) and x for x in aliases):
            raise InvalidActor(f"actor {name!r}: aliases is a list of its former names, got {aliases!r}")
        if name in self.actors:
            raise InvalidActor(
                f"actor {name!r}: that is an alias of actor {self.actors[name]!r}; rename it, or drop the alias"
            )
        for alias in aliases:
            if alias == name or alias in broker.actors:
                raise InvalidActor(
                    f"actor {name!r}: its alias {alias!r} is the name of actor {alias!r}; drop the alias"
                )
            if self.actors.get(alias, name) != name:
                raise InvalidActor(
                    f"actor {name!r}: its alias {alias!r} is an alias of actor {self.actors[alias]!r} too; drop one"
                )

    def after_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        self.actors |= dict.fromkeys(actor.options.get("aliases", ()), actor.actor_name)

    def of(self, name: str) -> str:
        """The name of the actor that runs messages for ``name``: itself, unless it is an alias."""
        return self.actors.get(name, name)
