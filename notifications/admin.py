"""The console."""


def environment_badge(request):  # type: ignore[no-untyped-def]
    return ["Development", "info"]
