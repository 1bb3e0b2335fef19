{{- define "akv.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "akv.fullname" -}}
{{- $name := include "akv.name" . -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $full | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{- define "akv.serviceAccount" -}}
{{- .Values.serviceAccountName | default (include "akv.fullname" .) -}}
{{- end -}}

{{- define "akv.selector" -}}
app.kubernetes.io/name: {{ include "akv.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "akv.labels" -}}
{{ include "akv.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{/* The object's namespace and labels, with those of a "labels" value. */}}
{{- define "akv.meta" -}}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "akv.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "akv.image" -}}
{{- $image := .os.image -}}
{{- $repository := required (printf "%s.image.repository: name the image to run" .name) $image.repository -}}
{{- if $image.digest -}}
{{ $repository }}@{{ $image.digest }}
{{- else -}}
{{ $repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/*
The argument list, sorted. Only an empty text or list leaves its flag out: false and 0
mean something. Numbers of values are floats, which would print as 1.6777216e+07.
*/}}
{{- define "akv.args" -}}
{{- $v := .root.Values -}}
{{- $flags := dict
  "bind-address" .os.bindAddress
  "cache-max-bytes" $v.cacheMaxBytes
  "cloud-env-dirs" $v.cloudEnvDirs
  "cloud-file" $v.cloudFiles
  "cloud-name" $v.cloudName
  "construct-pem-chain" $v.constructPEMChain
  "custom-user-agent" .os.customUserAgent
  "enable-pprof" $v.enablePprof
  "endpoint" "unix:///provider/azure.sock"
  "healthz-path" .os.healthzPath
  "healthz-port" .os.healthzPort
  "healthz-timeout" .os.healthzTimeout
  "identity-modes" $v.identityModes
  "log-format-json" $v.logFormatJSON
  "managed-identity-namespaces" $v.managedIdentityNamespaces
  "max-response-bytes" $v.maxResponseBytes
  "max-vault-concurrency" $v.maxVaultConcurrency
  "metrics-backend" $v.metricsBackend
  "mount-timeout" $v.mountTimeout
  "pprof-port" $v.pprofPort
  "prometheus-port" (include "akv.metricsPort" .os)
  "retry-max" $v.retryMax
  "rotation-cache-ttl" $v.rotationCacheTTL
  "service-account-dir" $v.serviceAccountDir
  "share-reads" $v.shareReads
  "sni-name" $v.sniName
  "stale-if-error" $v.staleIfError
  "strict-objects" $v.strictObjects
  "tenant-id" $v.tenantID
  "token-audience" $v.tokenAudience
  "token-proxy-url" $v.tokenProxyURL
  "v" $v.logVerbosity
  "write-cert-and-key-in-separate-files" $v.writeCertAndKeyInSeparateFiles
-}}
{{- range $flag, $value := $flags }}
{{- if kindIs "slice" $value }}{{ $value = join "," $value }}{{ end }}
{{- if or (kindIs "float64" $value) (kindIs "int64" $value) }}{{ $value = toString (int64 $value) }}{{ end }}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
- {{ printf "--%s=%v" $flag $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "akv.metricsPort" -}}
{{- trimPrefix ":" .metricsAddr -}}
{{- end -}}

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
{{- with $v.proxy.httpsProxy }}
- name: HTTPS_PROXY
  value: {{ . | quote }}
- name: NO_PROXY
  value: {{ concat (list "169.254.169.254" "$(KUBERNETES_SERVICE_HOST)" ".svc" ".cluster.local") $v.proxy.noProxy | join "," | quote }}
{{- end }}
{{- if and $v.extraCABundle.configMapName (eq .name "linux") }}
# Not SSL_CERT_FILE, which would take the place of the image's public CAs.
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
{{- $own := list }}
{{- range .os.env }}{{ $own = append $own .name }}{{ end }}
{{- $memory := include "akv.memoryLimit" . }}
{{- if and $memory (not (has "GOMEMLIMIT" $own)) }}
- name: GOMEMLIMIT
  value: {{ $memory | quote }}
{{- end }}
{{- with .os.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Where kubelet's probes go: to the pod's address by default. A loopback address is the node's
only in the node's network. What "$(NODE_IP)" stands for is the pod's address. */}}
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

{{- define "akv.daemonset" -}}
{{- $ca := and .root.Values.extraCABundle.configMapName (eq .name "linux") -}}
{{- $selector := merge (dict "app.kubernetes.io/component" .name) (include "akv.selector" .root | fromYaml) -}}
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: {{ include "akv.fullname" .root }}{{ if eq .name "windows" }}-windows{{ end }}
  {{- include "akv.meta" (dict "root" .root) | nindent 2 }}
spec:
  selector:
    matchLabels:
      {{- toYaml $selector | nindent 6 }}
  updateStrategy:
    {{- toYaml .os.updateStrategy | nindent 4 }}
  template:
    metadata:
      labels:
        {{- toYaml (merge (deepCopy $selector) (include "akv.labels" .root | fromYaml) .os.podLabels) | nindent 8 }}
      annotations:
        kubectl.kubernetes.io/default-container: provider
        {{- with .os.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "akv.serviceAccount" .root }}
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .os.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- if and .root.Values.hostNetwork (eq .name "linux") }}
      hostNetwork: true
      # Without it, the pod could not find services of the cluster, such as a proxy.
      dnsPolicy: ClusterFirstWithHostNet
      {{- end }}
      nodeSelector:
        {{- toYaml (merge (dict "kubernetes.io/os" .name) .os.nodeSelector) | nindent 8 }}
      {{- with .os.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .os.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: provider
          image: {{ include "akv.image" . | quote }}
          imagePullPolicy: {{ .os.image.pullPolicy }}
          args:
            {{- include "akv.args" . | trim | nindent 12 }}
          {{- with include "akv.env" . }}
          env:
            {{- trim . | nindent 12 }}
          {{- end }}
          {{- $metrics := include "akv.metricsPort" .os | int }}
          {{- if or .os.healthzPort $metrics }}
          ports:
            {{- if .os.healthzPort }}
            - name: healthz
              containerPort: {{ int .os.healthzPort }}
            {{- end }}
            {{- if $metrics }}
            - name: metrics
              containerPort: {{ $metrics }}
            {{- end }}
          {{- end }}
          {{- if .os.healthzPort }}
          livenessProbe:
            httpGet:
              path: {{ .os.healthzPath }}
              port: healthz
              {{- with include "akv.probeHost" . }}
              host: {{ . | quote }}
              {{- end }}
            initialDelaySeconds: 5
            periodSeconds: 30
            timeoutSeconds: 10
            failureThreshold: 3
          readinessProbe:
            httpGet:
              path: /readyz
              port: healthz
              {{- with include "akv.probeHost" . }}
              host: {{ . | quote }}
              {{- end }}
            periodSeconds: 5
            timeoutSeconds: 10
          {{- end }}
          {{- with .os.resources }}
          resources:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- with .os.securityContext }}
          securityContext:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          volumeMounts:
            - name: providers
              mountPath: {{ eq .name "windows" | ternary "C:\\provider" "/provider" }}
            {{- if $ca }}
            - name: ca
              mountPath: /etc/akv-csi-provider/ca
              readOnly: true
            {{- end }}
            {{- with .os.volumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: providers
          hostPath:
            path: {{ .os.providersDir }}
            type: DirectoryOrCreate
        {{- if $ca }}
        - name: ca
          configMap:
            name: {{ .root.Values.extraCABundle.configMapName }}
            items:
              - key: {{ .root.Values.extraCABundle.key }}
                path: ca.crt
        {{- end }}
        {{- with .os.volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}
