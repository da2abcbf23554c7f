{{/* `list . "name of the test"`: a test's pod but for what it runs. */}}
{{- define "postfleet.test.metadata" -}}
{{- $top := index . 0 -}}
name: {{ include "postfleet.fullname" $top }}-test-{{ index . 1 }}
namespace: {{ $top.Release.Namespace | quote }}
labels: {{- include "postfleet.labels" (list $top "test") | nindent 2 }}
annotations:
  helm.sh/hook: test
  # One that passed goes; one that failed stays for its log.
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{- define "postfleet.test.spec" -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- include "postfleet.podSecurity" . | nindent 2 }}
{{- with include "postfleet.pullSecrets" . | trim }}
{{ . }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {}
{{- end -}}

{{- define "postfleet.test.container" -}}
image: {{ include "postfleet.image" (list . "worker") }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  {{- include "postfleet.connectionEnv" (list . (include "postfleet.connectionsSecret" .)) | nindent 2 }}
resources:
  requests: {cpu: 50m, memory: 128Mi}
  limits: {memory: 512Mi}
securityContext: {{- include "postfleet.containerSecurity" . | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
{{- end -}}
