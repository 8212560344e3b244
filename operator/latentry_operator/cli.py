"""The ``latentry`` command: one root over the operator's and the data plane's commands.

Commands import what they need when they run, so that the tap's image needs no Kubernetes client and ``latentry --help``
answers at once. Errors meant for users end as a sentence on stderr and an exit code, never as a traceback.
"""

import importlib.metadata
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from latentry_operator import rollout_cli
from latentry_operator.local.screen import Output, make_screen
from latentry_serving.cli import app as serving_app
from latentry_serving.cli import run
from latentry_serving.contract import ports
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.units import Duration

app = typer.Typer(
    name="latentry",
    help="Serve encoders, autoencoders and VAEs on Triton, measured and guarded.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.registered_commands += serving_app.registered_commands
app.registered_groups += serving_app.registered_groups
app.add_typer(rollout_cli.app, name="rollout")


def main() -> None:
    """Entry point of the console script."""
    run(app)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Serve encoders, autoencoders and VAEs on Triton, measured and guarded."""
    if version:
        Console().print(f"latentry {importlib.metadata.version('latentry')}", highlight=False)
        raise typer.Exit


@app.command()
def validate(files: Annotated[list[Path], typer.Argument(help="YAML files with LatentModels and GPUPools.")]) -> None:
    """Check resource files and explain every problem at once; exit code 2 when there is one."""
    from latentry_operator.api.load import validate_files

    out, err = Console(highlight=False), Console(stderr=True, highlight=False)
    results = validate_files(files)
    for result in results:
        if result.error is None:
            out.print(f"{result.path}: ok, {result.summary}", markup=False, soft_wrap=True)
        else:
            err.print(str(result.error), markup=False, soft_wrap=True)
    if any(result.error for result in results):
        raise typer.Exit(InvalidInput.exit_code)


@app.command()
def operator(
    config: Annotated[
        Path | None,
        typer.Option(help="YAML settings; LATENTRY_OPERATOR_* in the environment override them.", show_default=False),
    ] = None,
) -> None:
    """Run the operator against the cluster this machine or pod has credentials for."""
    from latentry_operator.runtime.operator import run_operator
    from latentry_operator.settings import load_settings

    run_operator(load_settings(config))


@app.command()
def render(
    files: Annotated[list[Path], typer.Argument(help="YAML files with LatentModels and the GPUPools they use.")],
    cluster: Annotated[str, typer.Option(help="What the cluster has: full, no-kserve or kubernetes-1.20.")] = "full",
) -> None:
    """Print the objects the operator would apply, as YAML, without a cluster."""
    from latentry_operator.render.files import render_files

    typer.echo(render_files(files, cluster), nl=False)


@app.command()
def rules(
    files: Annotated[list[Path], typer.Argument(help="YAML files with LatentModels.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write into; left out: stdout.", show_default=False)
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            help="Of LatentModels that name none; left out: one machine, no namespace.",
            show_default=False,
        ),
    ] = None,
    operator: Annotated[bool, typer.Option("--operator", help="With the rules about operator and GPU pools.")] = False,
    runbook_url: Annotated[
        str | None, typer.Option(help="Where the runbooks lie, for the alerts' links.", show_default=False)
    ] = None,
) -> None:
    """Print or write Prometheus' recording rules and alerts for the objectives of LatentModels, without a cluster."""
    from latentry_operator.render.rule_files import rule_documents, rules_text, write_rules
    from latentry_operator.slo.types import RuleSettings

    settings = RuleSettings() if runbook_url is None else RuleSettings(runbook_url=runbook_url)
    documents = rule_documents(files, settings, namespace=namespace, operator=operator)
    if output is None:
        typer.echo(rules_text(documents), nl=False)
        return
    for path in write_rules(documents, output):
        typer.echo(f"wrote {path}")


@app.command()
def diff(
    files: Annotated[list[Path], typer.Argument(help="YAML files with LatentModels and GPUPools.")],
    config: Annotated[
        Path | None,
        typer.Option(help="The operator's settings file, when it has one: objects depend on it.", show_default=False),
    ] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Credentials.", show_default=False)] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig.", show_default=False)] = None,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Of LatentModels that name none.")] = "default",
) -> None:
    """Show what the operator would change in the cluster, by dry run.

    Exit code 0: nothing; 1: something differs; 2: bad input, or the cluster did not answer.
    """
    import asyncio

    from latentry_operator.runtime.diff import diff_files
    from latentry_operator.settings import load_settings

    given = {"kubeconfig": kubeconfig, "context": context}
    settings = load_settings(config, **{name: value for name, value in given.items() if value is not None})
    models = asyncio.run(diff_files(files, settings, namespace))
    typer.echo("".join(model.text() for model in models), nl=False)
    if any(model.differs for model in models):
        raise typer.Exit(1)


def _duration(text: str) -> Duration:
    try:
        return Duration.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _http_url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{text!r} is no URL; write for example http://127.0.0.1:4318/v1/traces")
    return text


@app.command()
def up(
    files: Annotated[list[Path], typer.Argument(help="YAML files with LatentModels.")],
    stop_after: Annotated[
        Duration | None,
        typer.Option("--for", parser=_duration, metavar="DURATION", help="Stop this long after every model is ready."),
    ] = None,
    output: Annotated[
        Output, typer.Option(help="How to report; auto is live in a terminal, else plain.")
    ] = Output.AUTO,
    http_port: Annotated[int, typer.Option(help="First port tried for HTTP.", min=1, max=65535)] = ports.TAP_HTTP,
    grpc_port: Annotated[int, typer.Option(help="First port tried for gRPC.", min=1, max=65535)] = ports.TAP_GRPC,
    admin_port: Annotated[int, typer.Option(help="First port tried for metrics.", min=1, max=65535)] = ports.TAP_ADMIN,
    page_port: Annotated[int, typer.Option(help="First port tried for the page.", min=1, max=65535)] = ports.UP_PAGE,
    run_dir: Annotated[Path, typer.Option(help="Folder for logs and generated files.")] = Path(".latentry/run"),
    triton_traces: Annotated[
        str | None,
        typer.Option(
            parser=_http_url,
            metavar="URL",
            help="Where Triton exports its own spans over OTLP/HTTP, such as http://127.0.0.1:4318/v1/traces.",
        ),
    ] = None,
) -> None:
    """Serve LatentModels on this machine: a real Triton and the tap as processes, until Ctrl-C.

    Exit code 0 only when every model became ready and stayed so.
    """
    from latentry_operator.local.up import UpSettings, serve

    settings = UpSettings(stop_after, http_port, grpc_port, admin_port, page_port, run_dir, triton_traces)
    serve(files, settings, make_screen(output, Console(highlight=False)))
