{{- define "akv.daemonset" -}}
{{- $ca := and .root.Values.extraCABundle.configMapName (eq .name "linux") -}}
{{- $selector := merge (dict "app.kubernetes.io/component" .name) (include "akv.selector" .root | fromYaml) -}}
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: {{ include "akv.fullname" .root }}{{ if eq .name "windows" }}-windows{{ end }}
  {{- include "akv.meta" (dict "root" .root "component" .name) | nindent 2 }}
spec:
  {{- with .os.minReadySeconds }}
  minReadySeconds: {{ int . }}
  {{- end }}
  selector:
    matchLabels:
      {{- toYaml $selector | nindent 6 }}
  updateStrategy:
    {{- toYaml .os.updateStrategy | nindent 4 }}
  template:
    metadata:
      labels:
        {{- include "akv.podLabels" (dict "root" .root "component" .name "labels" .os.podLabels) | nindent 8 }}
      annotations:
        kubectl.kubernetes.io/default-container: provider
        {{- with .os.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "akv.serviceAccount" .root }}
      {{- with include "akv.pullSecrets" .root }}
      imagePullSecrets:
        {{- trim . | nindent 8 }}
      {{- end }}
      {{- with .os.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      terminationGracePeriodSeconds: {{ int .os.terminationGracePeriodSeconds }}
      {{- $host := and .root.Values.hostNetwork (eq .name "linux") }}
      {{- if $host }}
      hostNetwork: true
      {{- end }}
      {{- with .os.dnsPolicy | default (ternary "ClusterFirstWithHostNet" "" $host) }}
      dnsPolicy: {{ . }}
      {{- end }}
      {{- with .os.podSecurityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
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
          {{- $health := int .os.healthzPort }}
          {{- $metrics := include "akv.metricsPort" . | int }}
          {{- if or $health $metrics }}
          ports:
            {{- if $health }}
            - name: healthz
              containerPort: {{ $health }}
            {{- end }}
            {{- if $metrics }}
            - name: metrics
              containerPort: {{ $metrics }}
            {{- end }}
          {{- end }}
          {{- if $health }}
          livenessProbe:
            httpGet:
              path: {{ .os.healthzPath }}
              port: healthz
              {{- with include "akv.probeHost" . }}
              host: {{ . | quote }}
              {{- end }}
            {{- with .os.livenessProbe }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          readinessProbe:
            httpGet:
              path: /readyz
              port: healthz
              {{- with include "akv.probeHost" . }}
              host: {{ . | quote }}
              {{- end }}
            {{- with .os.readinessProbe }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
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
