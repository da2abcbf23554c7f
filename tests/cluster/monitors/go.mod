// The CRDs PodMonitor and PrometheusRule, pinned: nothing is built of this module, tests/cluster/assets.py only reads
// its example/prometheus-operator-crd.
module postfleet.io/tests/monitors

go 1.24

require github.com/prometheus-operator/prometheus-operator v0.85.0
