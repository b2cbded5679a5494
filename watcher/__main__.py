"""``python -m watcher`` and the ``watcher`` command."""


def main() -> None:
    """Hand over to the command line."""
    from watcher.cli import cli  # noqa: PLC0415

    cli()


if __name__ == "__main__":
    main()
