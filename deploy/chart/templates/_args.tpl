{{/*
The sorted argument list: each flag with its value and the provider's own default. A flag is
omitted if its value equals the default, or is an empty text or list. Numbers in values are
floats, which would print as 1.6777216e+07.
*/}}
{{- define "akv.args" -}}
{{- $v := .root.Values -}}
{{- $flags := dict
  "audit-log" (list $v.auditLog "off")
  "bind-address" (list .os.bindAddress "")
  "cache-max-bytes" (list $v.cacheMaxBytes "16777216")
  "cloud-env-dirs" (list $v.cloudEnvDirs "/cloudEnv,/etc/kubernetes,/etc/akv")
  "cloud-file" (list $v.cloudFiles "")
  "cloud-name" (list (include "akv.cloud" .root) "AzurePublicCloud")
  "construct-pem-chain" (list $v.constructPEMChain "true")
  "custom-user-agent" (list .os.customUserAgent "")
  "enable-pprof" (list $v.enablePprof "false")
  "endpoint" (list "unix:///provider/azure.sock" "unix:///tmp/azure.sock")
  "healthz-path" (list .os.healthzPath "/healthz")
  "healthz-port" (list .os.healthzPort "8989")
  "healthz-timeout" (list .os.healthzTimeout "5s")
  "identity-modes" (list $v.identityModes "")
  "log-format-json" (list $v.logFormatJSON "false")
  "managed-identity-namespaces" (list $v.managedIdentityNamespaces "")
  "max-response-bytes" (list $v.maxResponseBytes "4194304")
  "max-vault-concurrency" (list $v.maxVaultConcurrency "80")
  "metrics-backend" (list $v.metricsBackend "prometheus")
  "mount-timeout" (list $v.mountTimeout "50s")
  "pprof-port" (list $v.pprofPort "6060")
  "prometheus-port" (list (include "akv.metricsPort" .) "8898")
  "retry-max" (list $v.retryMax "3")
  "rotation-cache-ttl" (list $v.rotationCacheTTL "30s")
  "service-account-dir" (list $v.serviceAccountDir "/var/run/secrets/kubernetes.io/serviceaccount")
  "share-reads" (list $v.shareReads "true")
  "sni-name" (list $v.sniName "")
  "stale-if-error" (list $v.staleIfError "0s")
  "strict-objects" (list $v.strictObjects "false")
  "tenant-id" (list $v.tenantID "")
  "token-audience" (list $v.tokenAudience "")
  "token-proxy-url" (list $v.tokenProxyURL "")
  "v" (list $v.logVerbosity "0")
  "write-cert-and-key-in-separate-files" (list $v.writeCertAndKeyInSeparateFiles "false")
-}}
{{- range $flag, $pair := $flags }}
{{- $value := first $pair }}
{{- if kindIs "slice" $value }}{{ $value = join "," $value }}{{ end }}
{{- if or (kindIs "float64" $value) (kindIs "int64" $value) }}{{ $value = toString (int64 $value) }}{{ end }}
{{- if not (or (kindIs "invalid" $value) (has (toString $value) (list "" (last $pair)))) }}
- {{ printf "--%s=%v" $flag $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The provider's spellings, of Azure's SDKs and of az, and the user's own clouds; in any case. */}}
{{- define "akv.cloud" -}}
{{- $names := list "AzurePublicCloud" "AzureUSGovernmentCloud" "AzureChinaCloud" "AzureBleuCloud" "AzureDelosCloud" "AzureStackCloud" -}}
{{- range .Values.cloudFiles }}{{ $names = append $names (regexReplaceAll "=.*" . "") }}{{ end -}}
{{- with .Values.cloudName -}}
{{- if not (has (lower .) (concat $names (list "AzureCloud" "AzureUSGovernment") | join "," | lower | splitList ",")) -}}
{{- fail (printf "cloudName: %q is not a cloud; use one of %s" . (join ", " $names)) -}}
{{- end -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* The port of a system's nodes, else that of all; 0 is a port, so "default" does not do. */}}
{{- define "akv.metricsPort" -}}
{{- $port := .os.metricsAddr -}}
{{- if or (kindIs "invalid" $port) (eq (toString $port) "") }}{{ $port = .root.Values.metricsAddr }}{{ end -}}
{{- toString $port | trimPrefix ":" -}}
{{- end -}}
