"""``sepconvert doctor``."""


def doctor() -> None:
    """Say what this machine offers: runtimes, devices, threads, timer noise, and what is missing.

    Example: sepconvert doctor
    """
    from sepconvert import workflows
    from sepconvert.terminal.machine import print_doctor

    print_doctor(workflows.doctor())
