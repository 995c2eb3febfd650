"""What may be passed wrongly to the functions beside `wrap`."""

import pgmpf_tf
from pgmpf_tf import criteria
from tests.bad_input.rows import (
    NO_BOOL,
    NO_DATA,
    NO_FRACTION,
    NO_MODEL,
    NO_NAME,
    NO_PATTERNS,
    ONCE,
    PLAIN,
    PROFILE,
    TABLE,
    TEACHER,
    WRAPPED,
    Subclassed,
    Target,
    X,
    Y,
    wrong_type,
    wrong_value,
)

TARGETS = {
    "compact": Target(
        pgmpf_tf.compact,
        {"model": PLAIN},
        {"model": NO_MODEL, "compile": NO_BOOL},
    ),
    "fold_batch_norm": Target(
        pgmpf_tf.fold_batch_norm, {"model": PLAIN}, {"model": NO_MODEL}
    ),
    "profile": Target(pgmpf_tf.profile, {"model": PLAIN}, {"model": NO_MODEL}),
    "compare": Target(
        pgmpf_tf.compare,
        {"dense": PLAIN, "small": PLAIN},
        {
            "dense": [*NO_MODEL, wrong_type(PROFILE, data=X)],
            "small": [*NO_MODEL, wrong_type(PROFILE, data=X)],
            "data": [wrong_type(3), wrong_value(X[:, 0])],
        },
    ),
    "recalibrate": Target(
        pgmpf_tf.recalibrate,
        {"model": PLAIN, "data": X},
        {
            "model": NO_MODEL,
            "data": [*NO_DATA, wrong_value(X[:0])],
            "batches": [wrong_type("x"), wrong_type(True), wrong_value(0)],
        },
    ),
    "compensate": Target(
        pgmpf_tf.compensate,
        {"model": WRAPPED, "data": X},
        {
            "model": [wrong_type("net"), wrong_type(None), wrong_type(PLAIN)],
            "data": [*NO_DATA, *ONCE, wrong_value(X[:0])],
        },
    ),
    "sensitivity": Target(
        pgmpf_tf.sensitivity,
        {"model": PLAIN, "data": (X, Y), "progress": False},
        {
            "model": [wrong_type("net"), wrong_type(None), wrong_value(TEACHER)],
            "data": [
                *NO_DATA,
                *ONCE,
                wrong_value(X[:0]),
                wrong_value(X, metric="accuracy"),
            ],
            "rates": [
                wrong_type(0.5),
                wrong_type("half"),
                wrong_type(["half"]),
                wrong_value(()),
                wrong_value([1.0]),
            ],
            "metric": [wrong_type(3), wrong_value("beauty")],
            "mode": NO_NAME,
            "criterion": [wrong_type(3), wrong_type(criteria.L1), wrong_value("l7")],
            "coupling": NO_NAME,
            "exclude": NO_PATTERNS,
            "path": [
                wrong_type(3),
                wrong_value("/"),
                wrong_value("/proc/none/table.json"),
            ],
            "progress": NO_BOOL,
        },
    ),
    "Sensitivity.save_heatmap": Target(
        TABLE.save_heatmap,
        {},
        {"path": [wrong_type(3), wrong_value("/proc/none/table.png")]},
    ),
    "LatencyTable.load": Target(
        pgmpf_tf.LatencyTable.load,
        {},
        {"path": [wrong_type(3), wrong_value("none.json")]},
    ),
    "LatencyTable.save": Target(
        pgmpf_tf.LatencyTable("tflite", "float32", 1, "nowhere").save,
        {},
        {"path": [wrong_type(3), wrong_value("/proc/none/table.json")]},
    ),
    "measure": Target(
        pgmpf_tf.measure,
        {"model": PLAIN, "path": "table.json"},
        {
            "model": NO_MODEL,
            "path": [wrong_type(3), wrong_value("/proc/none/table.json")],
            "runtime": NO_NAME,
            "precision": [*NO_NAME, wrong_value("int16x8")],
            "threads": [wrong_type("x"), wrong_type(True), wrong_value(0)],
            "verbose": NO_BOOL,
        },
    ),
    "export": Target(
        pgmpf_tf.export,
        {"model": PLAIN, "directory": "out", "verbose": False},
        {
            "model": NO_MODEL,
            "directory": [wrong_type(3), wrong_type(None), wrong_value("/proc/none")],
            "formats": [
                wrong_type(None),
                wrong_type(3),
                wrong_type([3]),
                wrong_value(()),
                wrong_value("exe"),
            ],
            "quantize": [wrong_type(3), wrong_value("int3")],
            "representative_data": [
                wrong_type(3, quantize="int8"),
                wrong_value(None, quantize="int8"),
                wrong_value(X[:, 0], quantize="int8"),
            ],
            "verification_data": [wrong_type(3), wrong_value(X[:, 0])],
            "batch_size": [wrong_type("x"), wrong_type(True), wrong_value(0)],
            "integer_io": [*NO_BOOL, wrong_value(True)],
            "tolerance": [wrong_type("x"), wrong_type(True), wrong_value(0)],
            "min_agreement": NO_FRACTION,
            "verbose": NO_BOOL,
        },
    ),
    "report": Target(
        pgmpf_tf.report,
        {"dense": PLAIN, "small": PLAIN},
        {
            "dense": NO_MODEL,
            "small": NO_MODEL,
            "history": [wrong_type(3), wrong_type([3])],
            "exports": [wrong_type(3), wrong_type({"a": 3})],
            "sensitivity": [wrong_type(3), wrong_type("table.json")],
            "data": [wrong_type(3), wrong_value(X[:, 0])],
            "title": [wrong_type(3)],
        },
    ),
    "Report.save": Target(
        pgmpf_tf.Report("<html></html>").save,
        {},
        {"path": [wrong_type(3), wrong_value("/proc/none/report.html")]},
    ),
    "register_rule": Target(
        pgmpf_tf.register_rule,
        {"layer": Subclassed, "rule": pgmpf_tf.rules.Elementwise()},
        {
            "layer": [wrong_type("Dense"), wrong_type(int)],
            "rule": [wrong_type("Elementwise"), wrong_type(pgmpf_tf.rules.Elementwise)],
        },
    ),
    "quantize_aware": Target(
        pgmpf_tf.quantize_aware, {"model": PLAIN}, {"model": NO_MODEL}
    ),
    "prune": Target(
        pgmpf_tf.prune,
        {"model": PLAIN, "data": X, "directory": "out", "minutes": 0, "verbose": False},
        {
            "model": NO_MODEL,
            "data": [wrong_type(3)],
            "directory": [wrong_type(3), wrong_type(None)],
            "budget": [wrong_type(0.5)],
            "round_to": [
                wrong_type("x"),
                wrong_type(1.5),
                wrong_type(None),
                wrong_value(0),
            ],
            "formats": [wrong_type(None), wrong_type(3), wrong_value("exe")],
            "quantize": [wrong_type(3), wrong_value("int3")],
            "tolerance": [wrong_type("x"), wrong_type(True), wrong_value(0)],
            "min_agreement": NO_FRACTION,
            "minutes": [wrong_type("x"), wrong_type(True), wrong_value(-1)],
            "input_range": [wrong_type(3), wrong_value("0..2")],
            "image_size": [wrong_type(8), wrong_type((8, "x")), wrong_value((8, 8))],
            "seed": [wrong_type("x"), wrong_value(-1), wrong_value(2**31)],
            "verbose": NO_BOOL,
        },
    ),
    "to_tf_keras": Target(pgmpf_tf.to_tf_keras, {"model": PLAIN}, {"model": NO_MODEL}),
}
