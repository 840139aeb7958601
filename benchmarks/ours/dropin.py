"""`benchmarks.peers.dropin`, the same script, with `elephas` meaning this package."""

from __future__ import annotations

from elephas_fast import install_as_elephas

if __name__ == "__main__":
    install_as_elephas()
    from benchmarks.peers import dropin

    dropin.main()
