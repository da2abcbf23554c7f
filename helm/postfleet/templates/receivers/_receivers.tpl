{{/* Web and inbound: what is reached from outside, and is on only when asked for. */}}
{{- define "postfleet.receivers" -}}
{{- $on := list -}}
{{- range $name := list "web" "inbound" -}}
{{- if (index $.Values $name).enabled }}{{ $on = append $on $name }}{{ end -}}
{{- end -}}
{{- toJson $on -}}
{{- end -}}

{{/* `list . "web"`: the port that its container listens on, and its name. */}}
{{- define "postfleet.receiver.port" -}}
{{ get (dict "web" "8081" "inbound" "2525") (index . 1) }}
{{- end -}}

{{- define "postfleet.receiver.portName" -}}
{{ get (dict "web" "http" "inbound" "smtp") (index . 1) }}
{{- end -}}
