{{/* Names. */}}
{{- define "postfleet.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "postfleet.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "postfleet.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "postfleet.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels of everything; `list . "relay"` gives those of a component. */}}
{{- define "postfleet.labels" -}}
{{- $top := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $top.Chart.Name $top.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ $top.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $top.Release.Service }}
app.kubernetes.io/part-of: postfleet
{{ include "postfleet.selector" . }}
{{- end -}}

{{- define "postfleet.selector" -}}
{{- $top := index . 0 -}}
app.kubernetes.io/name: {{ include "postfleet.name" $top | quote }}
app.kubernetes.io/instance: {{ $top.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* `list . "operator"`: an image, by digest if there is one. */}}
{{- define "postfleet.image" -}}
{{- $top := index . 0 -}}
{{- $image := index $top.Values.image (index . 1) -}}
{{- with $top.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default $top.Chart.AppVersion $top.Values.image.tag }}{{ end -}}
{{- end -}}

{{- define "postfleet.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* `list . "operator"`: the ServiceAccount of a component. */}}
{{- define "postfleet.serviceAccount" -}}
{{- $top := index . 0 -}}
{{- $account := (index $top.Values (index . 1)).serviceAccount -}}
{{- if $account.create -}}
{{- default (printf "%s-%s" (include "postfleet.fullname" $top) (index . 1)) $account.name -}}
{{- else -}}
{{- default "default" $account.name -}}
{{- end -}}
{{- end -}}

{{/* Whether the operator watches the whole cluster; empty if not. */}}
{{- define "postfleet.everywhere" -}}
{{- if has "*" .Values.watchNamespaces }}true{{ end -}}
{{- end -}}

{{/* The watched namespaces as a JSON list; empty for all. */}}
{{- define "postfleet.watched" -}}
{{- if include "postfleet.everywhere" . -}}
[]
{{- else -}}
{{- default (list .Release.Namespace) .Values.watchNamespaces | uniq | toJson -}}
{{- end -}}
{{- end -}}

{{/* These and the release's own, as a JSON list: where the chart's Secret and settings are needed. */}}
{{- define "postfleet.used" -}}
{{- prepend (include "postfleet.watched" . | fromJsonArray) .Release.Namespace | uniq | toJson -}}
{{- end -}}

{{/* The URLs that the chart knows; empty where an existing Secret has it. */}}
{{- define "postfleet.databaseUrl" -}}
{{- if .Values.dev.postgresql.enabled -}}
postgresql://postfleet:{{ .Values.dev.postgresql.password }}@{{ include "postfleet.fullname" . }}-postgresql.{{ .Release.Namespace }}.svc:5432/postfleet
{{- else -}}
{{- .Values.database.url -}}
{{- end -}}
{{- end -}}

{{- define "postfleet.redisUrl" -}}
{{- if .Values.dev.redis.enabled -}}
redis://{{ include "postfleet.fullname" . }}-redis.{{ .Release.Namespace }}.svc:6379/0
{{- else -}}
{{- .Values.redis.url -}}
{{- end -}}
{{- end -}}

{{/* The data of the chart's own Secret; empty where existing ones have all. */}}
{{- define "postfleet.connections" -}}
{{- with include "postfleet.databaseUrl" . }}
POSTFLEET_DATABASE_URL: {{ . | quote }}
{{- end }}
{{- with include "postfleet.redisUrl" . }}
POSTFLEET_REDIS_URL: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* `list . "name of the chart's Secret"`: both URLs as environment variables. */}}
{{- define "postfleet.connectionEnv" -}}
{{- $redis := (index . 0).Values.redis.existingSecret -}}
{{ include "postfleet.databaseEnv" . }}
- name: POSTFLEET_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ default (index . 1) $redis.name | quote }}
      key: {{ ternary $redis.key "POSTFLEET_REDIS_URL" (ne $redis.name "") | quote }}
{{- end -}}

{{/* The same of PostgreSQL alone, for whom Redis does not concern. */}}
{{- define "postfleet.databaseEnv" -}}
{{- $database := (index . 0).Values.database.existingSecret -}}
- name: POSTFLEET_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ default (index . 1) $database.name | quote }}
      key: {{ ternary $database.key "POSTFLEET_DATABASE_URL" (ne $database.name "") | quote }}
{{- end -}}

{{- define "postfleet.connectionsSecret" -}}
{{ include "postfleet.fullname" . }}-connections
{{- end -}}

{{/* What relay, workers and receivers must agree on: the data of the ConfigMap; empty where there is nothing. */}}
{{- define "postfleet.settings" -}}
{{- with .Values.publicUrl }}
POSTFLEET_PUBLIC_URL: {{ trimSuffix "/" . | quote }}
{{- end }}
{{- range $name, $value := .Values.settings }}
{{ $name }}: {{ ternary (toJson $value) (toString $value) (kindIs "float64" $value) | quote }}
{{- end }}
{{- end -}}

{{- define "postfleet.settingsFrom" -}}
{{- if include "postfleet.settings" . }}
envFrom:
  - configMapRef:
      name: {{ include "postfleet.fullname" . }}-settings
{{- end }}
{{- end -}}

{{/* Where the secret key is. */}}
{{- define "postfleet.keySecret" -}}
{{ default (printf "%s-secret-key" (include "postfleet.fullname" .)) .Values.secretKey.existingSecret.name }}
{{- end -}}

{{- define "postfleet.keySecretKey" -}}
{{ ternary .Values.secretKey.existingSecret.key "POSTFLEET_SECRET_KEY" (ne .Values.secretKey.existingSecret.name "") }}
{{- end -}}

{{- define "postfleet.keyEnv" -}}
- name: POSTFLEET_SECRET_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "postfleet.keySecret" . | quote }}
      key: {{ include "postfleet.keySecretKey" . | quote }}
{{- end -}}

{{/* The `restricted` Pod Security Standard, and a root filesystem that nobody writes to. The user is the image's. */}}
{{- define "postfleet.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "postfleet.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* `list . "relay"`: where and how a component's pods run. */}}
{{- define "postfleet.placement" -}}
{{- $top := index . 0 -}}
{{- $values := index $top.Values (index . 1) -}}
{{- with $values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if gt (int (default 1 $values.replicas)) 1 }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "postfleet.selector" . | nindent 8 }}
{{- end }}
{{- end -}}

{{- define "postfleet.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 3
livenessProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}
