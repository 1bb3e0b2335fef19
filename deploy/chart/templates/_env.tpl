{{/*
Four fifths of the memory limit, for Go's GOMEMLIMIT; empty without a limit. Of the units of a quantity
("0.5Gi", "500M", 536870912, "5e8"), Go's knows only those of 1024, without fractions.
*/}}
{{- define "akv.memoryLimit" -}}
{{- $limit := ((.os.resources | default dict).limits | default dict).memory | default "" | toString -}}
{{- $number := regexFind "^[0-9.]+([eE][+-]?[0-9]+)?" $limit -}}
{{- $units := dict "" 1 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- with and $number (get $units (trimPrefix $number $limit)) -}}
{{- with divf (mulf $number . 4) 5242880 | floor | int64 }}{{ . }}MiB{{ end -}}
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

{{/* Not empty if only the node's own processes, or the pod's, reach the address. */}}
{{- define "akv.loopback" -}}
{{- if regexMatch "^((?i:::ffff:)?127[.]|[0:]*:0{0,3}1$)" (.os.bindAddress | default "") -}}yes{{- end -}}
{{- end -}}

{{/* The host of kubelet's probes: the pod's address by default. A loopback address is the node's
only in the host network. "$(NODE_IP)" is the pod's address. */}}
{{- define "akv.probeHost" -}}
{{- $address := .os.bindAddress | default "" -}}
{{- if include "akv.loopback" . -}}
{{- if not (and .root.Values.hostNetwork (eq .name "linux")) -}}
{{- fail (printf "%s.bindAddress=%s: the probes reach a loopback address only with hostNetwork" .name $address) -}}
{{- end -}}
{{- end -}}
{{- if not (or (hasPrefix "$" $address) (has $address (list "0.0.0.0" "::"))) -}}
{{- $address -}}
{{- end -}}
{{- end -}}
