{{/* Warnings of values that have no effect, or another one than with the replaced chart. */}}
{{- define "akv.warnings" -}}
{{- $v := .Values -}}
{{- $warnings := list -}}
{{- with index $v "secrets-store-csi-driver" -}}
{{- if ne (toString .install) "false" -}}
{{- $warnings = append $warnings "secrets-store-csi-driver: ignored. This chart does not install the driver; install it with its own chart." -}}
{{- end -}}
{{- end -}}
{{- if or $v.enableArcExtension $v.arc $v.Azure $v.promMdmConverter $v.mdm $v.msiAdapter $v.telegraf $v.amacoreagent $v.fluentd -}}
{{- $warnings = append $warnings "enableArcExtension, arc, Azure, promMdmConverter, mdm, msiAdapter, telegraf, amacoreagent, fluentd: ignored. Instead of the Arc extension's monitoring and proxy, use podMonitor, dashboard, proxy and extraCABundle." -}}
{{- end -}}
{{- if $v.rbac.pspEnabled -}}
{{- $warnings = append $warnings "rbac.pspEnabled: ignored. Kubernetes 1.25 removed PodSecurityPolicy." -}}
{{- end -}}
{{- $readers := list -}}
{{- range $reader := list "podMonitor" "prometheusRule" "dashboard" -}}
{{- if (index $v $reader).enabled }}{{ $readers = append $readers $reader }}{{ end -}}
{{- end -}}
{{- range $name := list "linux" "windows" -}}
{{- $os := index $v $name -}}
{{- if $os.enabled -}}
{{- if $os.privileged -}}
{{- $warnings = append $warnings (printf "%s.privileged: ignored. The provider needs no privileges; if the node's SELinux policy blocks its socket, set %s.securityContext.seLinuxOptions." $name $name) -}}
{{- end -}}
{{- $limits := ($os.resources | default dict).limits | default dict -}}
{{- if $limits.cpu -}}
{{- $warnings = append $warnings (printf "%s.resources.limits.cpu=%v: a CPU limit slows down the start of pods; remove it." $name $limits.cpu) -}}
{{- end -}}
{{- $memory := include "akv.memoryLimit" (dict "os" $os) | trimSuffix "MiB" -}}
{{- if and $memory (lt (int64 $memory) 307) -}}
{{- $warnings = append $warnings (printf "%s.resources.limits.memory=%v: less than the 384Mi that the provider is sized for (deploy/README.md, Memory); under load it may be killed." $name $limits.memory) -}}
{{- end -}}
{{- if and $readers (eq (include "akv.metricsPort" (dict "root" $ "os" $os)) "0") -}}
{{- $warnings = append $warnings (printf "%s: %s nodes serve no metrics (metricsAddr=0); set %s.metricsAddr to a port." (join ", " $readers) $name $name) -}}
{{- else if and $v.podMonitor.enabled (include "akv.loopback" (dict "os" $os)) -}}
{{- $warnings = append $warnings (printf "podMonitor: Prometheus cannot reach %s.bindAddress=%s, so that alerts of missing providers fire; set %s.bindAddress to \"\", or scrape from the node itself." $name $os.bindAddress $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $v.podMonitor.enabled (not (include "akv.hasPodMonitor" .)) -}}
{{- $warnings = append $warnings (printf "podMonitor: not created. The cluster does not have %s PodMonitor; upgrade the release once it has." $v.podMonitor.apiVersion) -}}
{{- end -}}
{{- if and $v.prometheusRule.enabled (not (include "akv.hasPrometheusRule" .)) -}}
{{- $warnings = append $warnings "prometheusRule: not created. The cluster does not have monitoring.coreos.com/v1 PrometheusRule; upgrade the release once it has." -}}
{{- end -}}
{{- if not (or (include "akv.createAccount" .) $v.serviceAccount.name) -}}
{{- $warnings = append $warnings "serviceAccount: none is created and none is named, so the pods run as \"default\", without the right to get ServiceAccounts. Classes without clientID cannot be mounted." -}}
{{- end -}}
{{- range $warnings }}
WARNING: {{ . }}
{{- end -}}
{{- end -}}
