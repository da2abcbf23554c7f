{{/* `list . "Secret with the URL"`: the container that migrates, but for its name and image. */}}
{{- define "postfleet.migrate" -}}
{{- $top := index . 0 -}}
command: [postfleet, migrate]
env:
  {{- include "postfleet.databaseEnv" . | nindent 2 }}
  - name: POSTFLEET_START_WAIT_SECONDS
    value: {{ $top.Values.migrations.waitSeconds | quote }}
resources: {{- toYaml $top.Values.migrations.resources | nindent 2 }}
securityContext: {{- include "postfleet.containerSecurity" $top | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
{{- end -}}
