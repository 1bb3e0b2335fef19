{{- define "akv.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "akv.fullname" -}}
{{- $name := include "akv.name" . -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $full | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{- define "akv.selector" -}}
app.kubernetes.io/name: {{ include "akv.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/*
Labels of pods: the selector's cannot be changed, a user's others take precedence over the
chart's. Without the chart's version: a new chart alone must not restart the pods.
*/}}
{{- define "akv.podLabels" -}}
{{- $own := dict
  "app.kubernetes.io/component" (.component | default "provider")
  "app.kubernetes.io/part-of" "secrets-store-csi-driver"
  "app.kubernetes.io/version" (.root.Chart.AppVersion | replace "+" "_" | trunc 63)
-}}
{{- $fixed := include "akv.selector" .root | fromYaml -}}
{{- with .component }}{{ $_ := set $fixed "app.kubernetes.io/component" . }}{{ end -}}
{{- merge $fixed (deepCopy (.labels | default dict)) (deepCopy .root.Values.commonLabels) $own | toYaml -}}
{{- end -}}

{{/* Labels of an object: those of pods, with chart and Helm. */}}
{{- define "akv.labels" -}}
{{- $chart := dict
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/managed-by" .root.Release.Service
-}}
{{- merge $chart (include "akv.podLabels" . | fromYaml) | toYaml -}}
{{- end -}}

{{/* The object's namespace and labels, with those of a "labels" value. */}}
{{- define "akv.meta" -}}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "akv.labels" . | nindent 2 }}
{{- end -}}

{{/* Not empty if the chart creates the ServiceAccount, or the rights. */}}
{{- define "akv.createAccount" -}}
{{- if and .Values.serviceAccount.create .Values.rbac.install -}}yes{{- end -}}
{{- end -}}

{{- define "akv.createRights" -}}
{{- if and .Values.rbac.create .Values.rbac.install -}}
{{- if not (or (include "akv.createAccount" .) .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.create=false: set serviceAccount.name, or rbac.create=false; the namespace's default ServiceAccount must not get the provider's rights" -}}
{{- end -}}
yes
{{- end -}}
{{- end -}}

{{- define "akv.serviceAccount" -}}
{{- $default := include "akv.createAccount" . | empty | ternary "default" (include "akv.fullname" .) -}}
{{- .Values.serviceAccount.name | default $default -}}
{{- end -}}

{{/* Image pull secrets of the chart and of global, by name or as objects. */}}
{{- define "akv.pullSecrets" -}}
{{- $names := list -}}
{{- range concat (.Values.imagePullSecrets | default list) (.Values.global.imagePullSecrets | default list) -}}
{{- if kindIs "map" . }}{{ $names = append $names .name }}{{ else }}{{ $names = append $names . }}{{ end -}}
{{- end -}}
{{- range uniq $names }}
- name: {{ . }}
{{- end -}}
{{- end -}}

{{/*
The image of a released chart by its digest, which is in an annotation of Chart.yaml with other
images, if there are any; empty in a checkout. It is of Linux only. Its name there is not that of
the chart, which a parent chart can change.
*/}}
{{- define "akv.releasedImage" -}}
{{- if eq .name "linux" -}}
{{- range index (.root.Chart.Annotations | default dict) "artifacthub.io/images" | default "[]" | fromYamlArray -}}
{{- if eq .name "akv-csi-provider" }}{{ .image }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A part of the repository before the first slash is a registry if it looks like a host. */}}
{{- define "akv.image" -}}
{{- $image := .os.image -}}
{{- $released := include "akv.releasedImage" . | splitList "@" -}}
{{- $repository := $image.repository | default (first $released) | required (printf "%s.image.repository: name the image to run" .name) -}}
{{- if hasSuffix "azure/secrets-store/provider-azure" $repository -}}
{{- fail (printf "%s.image.repository: %s is the image of the Azure provider; name the image of akv-csi-provider, with its tag" .name $repository) -}}
{{- end -}}
{{- with .root.Values.global.imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (regexReplaceAll "^(localhost|[^/]*[.:][^/]*)/" $repository "") -}}
{{- end -}}
{{- $digest := $image.digest -}}
{{- if not (or $digest $image.tag) -}}
{{- $digest = last $released -}}
{{- end -}}
{{- if $digest -}}
{{ $repository }}@{{ $digest }}
{{- else -}}
{{ $repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}
