"""``latentry rollout``: how a change stands, and what to do about it. Where a `latentry up` of this folder serves the
model, it is asked; else the cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from latentry_operator.plan.rollout.facts import Verb
from latentry_operator.plan.rollout.reasons import RolloutReason
from latentry_serving.contract.errors import InvalidInput, OperationFailed

app = typer.Typer(no_args_is_help=True, help="Follow, pause, promote or undo the rollout of a model.")

_HELP = {
    Verb.PAUSE: "Stop where it is; failing gates still roll back.",
    Verb.RESUME: "Go on after a pause, or judge a held candidate anew.",
    Verb.ABORT: "Give the candidate up.",
    Verb.PROMOTE: "Promote the candidate past its gates and steps.",
    Verb.UNDO: "Go back to the revision that is kept.",
    Verb.RETRY: "Try a rejected revision, or a refused edit, again.",
}

Name = Annotated[str, typer.Argument(help="The LatentModel's name.")]
RunDir = Annotated[Path, typer.Option(help="Run folder of the `latentry up` that serves it on this machine.")]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        help="Of the LatentModel in a cluster; left out: that of the kubeconfig's context. Asks no `latentry up`.",
        show_default=False,
    ),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(help="Credentials for the cluster; left out: KUBECONFIG or ~/.kube/config.", show_default=False),
]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig.", show_default=False)]
RUN_DIR = Path(".latentry/run")


class Target(Protocol):
    """Where the model runs."""

    def status(self) -> str: ...
    def command(self, verb: Verb) -> str: ...


@app.command()
def status(
    name: Name,
    run_dir: RunDir = RUN_DIR,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Print where the rollout stands: which gate, which number, what is next."""
    typer.echo(target(name, run_dir, namespace, kubeconfig, context).status())


def _commander(verb: Verb) -> Callable[..., None]:
    def command(
        name: Name,
        run_dir: RunDir = RUN_DIR,
        namespace: Namespace = None,
        kubeconfig: Kubeconfig = None,
        context: Context = None,
    ) -> None:
        typer.echo(target(name, run_dir, namespace, kubeconfig, context).command(verb))

    return command


for _verb, _help in _HELP.items():
    app.command(_verb.value, help=_help)(_commander(_verb))


def target(
    name: str,
    run_dir: Path,
    namespace: str | None = None,
    kubeconfig: Path | None = None,
    context: str | None = None,
) -> Target:
    """Who is asked: `latentry up` of this folder where it serves the model and no cluster is named."""
    local = LocalTarget(run_dir / name)
    named = namespace or kubeconfig or context
    if not named and local.serves():
        return local
    from latentry_operator.kube.rollout_command import ClusterTarget
    from latentry_operator.settings import load_settings

    given: dict[str, Any] = {"kubeconfig": kubeconfig, "context": context}
    # Not through load_settings, where the environment takes precedence.
    settings = load_settings().model_copy(update={name: value for name, value in given.items() if value is not None})
    cluster = ClusterTarget(name, namespace, settings)
    return cluster if named else Elsewhere(cluster, run_dir / name)


class LocalTarget:
    """A `latentry up` on this machine."""

    def __init__(self, run_dir: Path) -> None:
        """
        Args:
            run_dir: the model's folder.
        """
        self._run_dir = run_dir

    def serves(self) -> bool:
        """Whether one answers here."""
        from latentry_operator.local.control import listens

        return listens(self._run_dir)

    def status(self) -> str:
        """Where the rollout stands."""
        return text(self._ask("status"))

    def command(self, verb: Verb) -> str:
        """What came of a command, and where the rollout stands."""
        from latentry_operator.status.text import ignored

        answer = self._ask(verb.value)
        for happening in (answer["rollout"] or {}).get("happenings", ()):
            if happening["reason"] == RolloutReason.COMMAND_IGNORED and happening["message"] in answer["said"]:
                raise ignored(happening["message"])
        return text(answer)

    def _ask(self, what: str) -> dict[str, Any]:
        from latentry_operator.local.control import ask

        return ask(self._run_dir, what)


class Elsewhere:
    """A cluster that is asked because no `latentry up` serves the model here."""

    def __init__(self, cluster: Target, run_dir: Path) -> None:
        """
        Args:
            run_dir: where a `latentry up` would have been found.
        """
        self._cluster = cluster
        self._run_dir = run_dir

    def status(self) -> str:
        """Where the rollout stands."""
        return self._told(self._cluster.status)

    def command(self, verb: Verb) -> str:
        """What came of a command."""
        return self._told(lambda: self._cluster.command(verb))

    def _told(self, ask: Callable[[], str]) -> str:
        try:
            return ask()
        except InvalidInput as error:
            problem = f"no `latentry up` serves from {self._run_dir}, and no cluster can be asked"
            remedy = "start `latentry up` or give its --run-dir; or name a kubeconfig"
            raise OperationFailed(problem, remedy=remedy, details=str(error)) from error


def text(answer: dict[str, Any]) -> str:
    """An answer for people: what was done, then where the rollout stands, one line for each gate."""
    rollout = answer["rollout"]
    lines: list[str] = list(answer["said"])
    if rollout is None:
        return "\n".join([*lines, "nothing has been looked at yet"])
    for role in ("stable", "candidate", "previous"):
        if revision := rollout[role]:
            share = ", has the traffic" if rollout["serving"] == revision["revision"] else ""
            lines.append(f"{role:<10} {revision['revision']}, version {revision['version']}{share}")
    lines.append(f"{'state':<10} {rollout['reason']}: {rollout['message']}")
    gates = (f"{gate['gate']} {gate['verdict']} ({gate['reason']}): {gate['message']}" for gate in rollout["verdicts"])
    lines += [f"{'gate':<10} {gate}" for gate in gates]
    lines += [f"{'note':<10} {note}" for note in rollout["notes"]]
    if rollout["edit"]:
        lines.append(f"{'edit':<10} refused: {rollout['edit']}")
    return "\n".join(lines)
