{{/*
Gives values that are null their defaults. Helm removes a key that a file of values leaves empty, so
that templates would read nothing. Each template calls this first, since Helm promises no order. The
defaults are a copy of values.yaml, which templates cannot read.
*/}}
{{- define "akv.defaults" -}}
{{- $defaults := required "files/defaults.yaml is missing" (.Files.Get "files/defaults.yaml") | fromYaml -}}
{{- include "akv.fill" (dict "values" .Values "defaults" $defaults) -}}
{{- end -}}

{{/* Objects of Kubernetes are one value: what is null in them is omitted, as Helm does it. */}}
{{- define "akv.fill" -}}
{{- $whole := list "affinity" "labels" "livenessProbe" "readinessProbe" "resources" "securityContext" "updateStrategy" -}}
{{- range $key, $default := .defaults -}}
{{- $value := index $.values $key -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := set $.values $key $default -}}
{{- else if and (kindIs "map" $value) $default (not (has $key $whole)) -}}
{{- include "akv.fill" (dict "values" $value "defaults" $default) -}}
{{- else if kindIs "map" $value -}}
{{- include "akv.omitNulls" $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "akv.omitNulls" -}}
{{- $object := . -}}
{{- range $key, $value := . -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $object $key -}}
{{- else if kindIs "map" $value -}}
{{- include "akv.omitNulls" $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
