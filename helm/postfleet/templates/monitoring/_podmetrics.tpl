{{/* How a PodMonitor reads a pod's metrics. */}}
{{- define "postfleet.podMetrics" -}}
- port: health
  path: /metrics
  interval: {{ .Values.podMonitor.interval }}
  # A metric's own namespace, pool and node count, not those of the pod that tells.
  honorLabels: true
  # A pod's name, not an address that the next pod may get.
  relabelings:
    - {sourceLabels: [__meta_kubernetes_pod_name], targetLabel: instance}
{{- end -}}
