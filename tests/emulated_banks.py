"""What emulated launches need of shared memory's banks."""


def conflicts(monkeypatch, run):
    """Accesses of a warp to shared memory that ``run`` makes, and how often one had to wait for another."""
    from nbconv_kernels.cuda import emulated, emulator

    totals = {"wavefronts": 0, "requests": 0}
    launch = emulator.launch

    def watched(*arguments, **options):
        statistics, hazards = launch(*arguments, **options)
        for kind in totals:
            totals[kind] += sum(statistics.get(f"shared {way} {kind}", 0) for way in ("load", "store"))
        return statistics, hazards

    with monkeypatch.context() as patch:
        patch.setattr(emulator, "launch", watched)
        patch.setitem(emulated.checks, "banks", True)
        run()
    return totals["requests"], totals["wavefronts"] - totals["requests"]
