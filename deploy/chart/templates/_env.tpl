{{/*
Four fifths of the memory limit, for Go's GOMEMLIMIT; empty without a limit in Mi or Gi.
*/}}
{{- define "akv.memoryLimit" -}}
{{- $limits := (.os.resources | default dict).limits | default dict -}}
{{- $limit := $limits.memory | default "" | toString -}}
{{- if regexMatch "^[0-9]+Mi$" $limit -}}
{{- div (mul (trimSuffix "Mi" $limit | int64) 4) 5 }}MiB
{{- else if regexMatch "^[0-9]+Gi$" $limit -}}
{{- div (mul (trimSuffix "Gi" $limit | int64) 4096) 5 }}MiB
{{- end -}}
{{- end -}}

{{/* kubelet expands the API server's address: services are known to every pod's variables. */}}
{{- define "akv.env" -}}
{{- $v := .root.Values -}}
{{- $own := list }}
{{- range .os.env }}{{ $own = append $own .name }}{{ end }}
{{- if not (has "NODE_NAME" $own) }}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end }}
{{- with $v.proxy.httpsProxy }}
- name: HTTPS_PROXY
  value: {{ . | quote }}
- name: NO_PROXY
  value: {{ concat (list "169.254.169.254" "$(KUBERNETES_SERVICE_HOST)" ".svc" ".cluster.local") $v.proxy.noProxy | join "," | quote }}
{{- end }}
{{- if and $v.extraCABundle.configMapName (eq .name "linux") }}
# Not SSL_CERT_FILE, which would replace the image's public CAs.
- name: SSL_CERT_DIR
  value: /etc/akv-csi-provider/ca
{{- end }}
{{- with $v.azureEnvironmentFile }}
- name: AZURE_ENVIRONMENT_FILEPATH
  value: {{ . | quote }}
{{- end }}
{{- with $v.tracing.otlpEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- $memory := include "akv.memoryLimit" . }}
{{- if and $memory (not (has "GOMEMLIMIT" $own)) }}
- name: GOMEMLIMIT
  value: {{ $memory | quote }}
{{- end }}
{{- with .os.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The host of kubelet's probes: the pod's address by default. A loopback address is the node's
only in the host network. "$(NODE_IP)" is the pod's address. */}}
{{- define "akv.probeHost" -}}
{{- $address := .os.bindAddress | default "" -}}
{{- if or (hasPrefix "127." $address) (eq "::1" $address) -}}
{{- if not (and .root.Values.hostNetwork (eq .name "linux")) -}}
{{- fail (printf "%s.bindAddress=%s: the probes reach a loopback address only with hostNetwork" .name $address) -}}
{{- end -}}
{{- end -}}
{{- if not (or (hasPrefix "$" $address) (has $address (list "0.0.0.0" "::"))) -}}
{{- $address -}}
{{- end -}}
{{- end -}}

