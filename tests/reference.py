"""Returns measured on RecSim, or by exact dynamics, with independent seeds.

Mean return of an episode and its standard error. For the interest worlds, where a standard error is
unknown, it is half of the last known digit. `quality` is greedy by the mean quality of a document's
cluster; interest exploration counts clicks in 300 steps, at the measured rate.
"""

RETURNS = {
    ("modified-lts-20-2", "random"): (1157.81, 0.04),
    ("modified-lts-20-2", "greedy"): (1163.66, 0.03),
    ("modified-lts-20-2", "opposite"): (1084.12, 0.03),
    ("modified-lts-10-1", "random"): (1157.89, 0.04),
    ("modified-lts-10-1", "greedy"): (1164.36, 0.03),
    ("modified-lts-10-1", "opposite"): (1092.54, 0.03),
    ("lts-20-2", "random"): (948.5, 0.5),
    ("lts-20-2", "greedy"): (1136.5, 0.6),
    ("lts-20-2", "opposite"): (770.8, 0.4),
    ("lts-10-1", "random"): (948.1, 0.5),
    ("lts-10-1", "greedy"): (1116.5, 0.6),
    ("lts-10-1", "opposite"): (785.9, 0.4),
    ("interest-evolution", "random"): (160.6, 0.1),
    ("interest-evolution", "greedy"): (168.2, 0.2),
    ("interest-evolution", "quality"): (264.2, 0.3),
    ("interest-exploration", "random"): (93.0, 0.15),
    ("interest-exploration", "greedy"): (133.8, 0.15),
}
