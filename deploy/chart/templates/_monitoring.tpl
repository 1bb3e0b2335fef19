{{/*
Not empty if the cluster has the operator's kinds. A cluster that is bootstrapped gets its
operator after the driver, and an unknown kind would fail the whole release.
*/}}
{{- define "akv.hasPodMonitor" -}}
{{- if .Capabilities.APIVersions.Has (printf "%s/PodMonitor" .Values.podMonitor.apiVersion) -}}yes{{- end -}}
{{- end -}}

{{- define "akv.hasPrometheusRule" -}}
{{- if .Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PrometheusRule" -}}yes{{- end -}}
{{- end -}}

{{/*
A matcher of this release's DaemonSets for the queries of files/alerts.yaml and files/dashboard.json,
which have one of all names that contain the chart's.
*/}}
{{- define "akv.anyDaemonSet" -}}=~".*akv-csi-provider.*"{{- end -}}
{{- define "akv.daemonSets" -}}
{{- printf "=~%q" (printf "%s(-windows)?" (include "akv.fullname" . | replace "." "[.]")) -}}
{{- end -}}

{{/*
files/alerts.yaml with the changes of prometheusRule.alerts. The file's links to the runbook are
relative to a folder that an alert does not know, so without the folder's URL there are none.
*/}}
{{- define "akv.alerts" -}}
{{- $v := .Values.prometheusRule -}}
{{- $file := required "files/alerts.yaml is missing" (.Files.Get "files/alerts.yaml") | fromYaml -}}
{{- $unknown := keys $v.alerts -}}
{{- range $group := $file.groups -}}
{{- $rules := list -}}
{{- range $rule := $group.rules -}}
{{- $change := dict -}}
{{- if $rule.alert -}}
{{- $unknown = without $unknown $rule.alert -}}
{{- $change = get $v.alerts $rule.alert | default dict -}}
{{- $_ := set $rule "labels" (merge (deepCopy ($change.labels | default dict)) (deepCopy $v.alertLabels) ($rule.labels | default dict)) -}}
{{- end -}}
{{- if $v.runbookBaseURL -}}
{{- $_ := set $rule.annotations "runbook_url" (printf "%s/%s" (trimSuffix "/" $v.runbookBaseURL) $rule.annotations.runbook_url) -}}
{{- else -}}
{{- $_ := unset $rule.annotations "runbook_url" -}}
{{- end -}}
{{- with $change.for }}{{ $_ := set $rule "for" . }}{{ end -}}
{{- if hasKey $change "threshold" -}}
{{- $expr := trim $rule.expr -}}
{{- if not (regexMatch "> [0-9.]+$" $expr) -}}
{{- fail (printf "prometheusRule.alerts.%s.threshold: the alert has no threshold" $rule.alert) -}}
{{- end -}}
{{- $_ := set $rule "expr" (regexReplaceAll "> [0-9.]+$" $expr (printf "> %v" $change.threshold)) -}}
{{- end -}}
{{- $_ := set $rule "expr" ($rule.expr | replace (include "akv.anyDaemonSet" $) (include "akv.daemonSets" $)) -}}
{{- if ne (toString $change.enabled) "false" }}{{ $rules = append $rules $rule }}{{ end -}}
{{- end -}}
{{- $_ := set $group "rules" $rules -}}
{{- end -}}
{{- with $unknown -}}
{{- fail (printf "prometheusRule.alerts: no alert has the name %s" (join ", " .)) -}}
{{- end -}}
{{- toYaml $file -}}
{{- end -}}
