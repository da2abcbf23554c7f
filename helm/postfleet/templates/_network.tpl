{{/* Parts of NetworkPolicies. */}}
{{- define "postfleet.network.metrics" -}}
# Metrics. Probes come from the machine itself, which no policy keeps out.
- ports: [{protocol: TCP, port: 8080}]
  {{- with .Values.networkPolicy.metricsFrom }}
  from: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "postfleet.network.names" -}}
# Names.
- ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end -}}

{{- define "postfleet.network.stores" -}}
{{ include "postfleet.network.names" . }}
# PostgreSQL and Redis.
- ports:
    - {protocol: TCP, port: {{ ternary 5432 .Values.networkPolicy.databasePort .Values.dev.postgresql.enabled }}}
    - {protocol: TCP, port: {{ ternary 6379 .Values.networkPolicy.redisPort .Values.dev.redis.enabled }}}
{{- end -}}

{{- define "postfleet.network.database" -}}
{{ include "postfleet.network.names" . }}
# PostgreSQL.
- ports:
    - {protocol: TCP, port: {{ ternary 5432 .Values.networkPolicy.databasePort .Values.dev.postgresql.enabled }}}
{{- end -}}

{{- define "postfleet.network.smtp" -}}
- ports:
    {{- range .Values.networkPolicy.smtpPorts }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end -}}
