"""Reads metrics from standard input with Prometheus' own client, and looks whether the values
can be. Prints how many samples there are; complains on stderr."""

import math
import re
import sys

from prometheus_client.parser import text_string_to_metric_families


def problems(text):
    seen = set()
    for family in text_string_to_metric_families(text):
        name = family.name + "_total" if family.type == "counter" else family.name
        if not re.fullmatch(r"keystone(_[a-z0-9]+)+", name):
            yield f"{name}: not in snake case below keystone_"
        for sample in family.samples:
            series = (sample.name, tuple(sorted(sample.labels.items())))
            if series in seen:
                yield f"{series}: twice"
            seen.add(series)
            if math.isnan(sample.value) or family.type == "counter" and sample.value < 0:
                yield f"{series}: {sample.value}"
        if family.type == "histogram":
            yield from of_histogram(family)


def of_histogram(family):
    series = {}
    for sample in family.samples:
        labels = dict(sample.labels)
        bound = labels.pop("le", None)
        parts = series.setdefault(tuple(sorted(labels.items())), {"buckets": []})
        if sample.name.endswith("_bucket"):
            parts["buckets"].append((float(bound), sample.value))
        else:
            parts[sample.name.rsplit("_", 1)[1]] = sample.value
    for labels, parts in series.items():
        bounds, counts = zip(*parts["buckets"])
        if list(bounds) != sorted(set(bounds)) or bounds[-1] != math.inf:
            yield f"{labels}: bounds {bounds}"
        if list(counts) != sorted(counts) or counts[-1] != parts["count"]:
            yield f"{labels}: counts {counts} of {parts['count']}"
        if parts["sum"] < 0:
            yield f"{labels}: sum {parts['sum']}"


def main():
    text = sys.stdin.read()
    found = list(problems(text))
    if found:
        sys.exit("\n".join(found))
    print(sum(len(family.samples) for family in text_string_to_metric_families(text)))


main()
