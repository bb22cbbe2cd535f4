"""The benchmark: which models run how fast on this device, and whether that changed.

cells (what to run) -> running (rounds of measurements) -> results (a JSON document) -> report
(table, CSV, HTML page) and comparison (with an older document). Time is measured in
`effnet_edge.measurement` alone.
"""
