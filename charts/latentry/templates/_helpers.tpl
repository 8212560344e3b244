{{- define "latentry.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- end }}

{{/* The name of the operator's objects, and of its Lease. */}}
{{- define "latentry.operator" -}}
{{ include "latentry.fullname" . }}-operator
{{- end }}

{{- define "latentry.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "latentry.labels" -}}
{{ include "latentry.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "latentry.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "latentry.operator" .) .Values.serviceAccount.name }}
{{- else -}}
{{ required "serviceAccount.name: name the account, or set serviceAccount.create to true" .Values.serviceAccount.name }}
{{- end -}}
{{- end }}

{{/* An image by digest where one is given, else by tag, else by the chart's appVersion. */}}
{{- define "latentry.image" -}}
{{- $image := .image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default .version $image.tag }}
{{- end -}}
{{- end }}

{{/* The settings file: what the chart knows, and the user's settings over it. */}}
{{- define "latentry.settings" -}}
{{- $tap := include "latentry.image" (dict "image" .Values.tapImage "version" .Chart.AppVersion) -}}
{{- $known := dict "leader" (dict "lease" (include "latentry.operator" .)) "cluster" (dict "tapImage" $tap) -}}
{{- if .Values.watchNamespace }}{{ $_ := set $known "namespace" .Values.watchNamespace }}{{ end -}}
{{- mergeOverwrite $known (deepCopy .Values.settings) | toYaml -}}
{{- end }}

{{/* Rules of a role, from files/rules.yaml; the Lease has the operator's name here. */}}
{{- define "latentry.rules" -}}
{{- $lease := (include "latentry.settings" .root | fromYaml).leader.lease -}}
{{- $rules := index (.root.Files.Get "files/rules.yaml" | fromYaml) .role -}}
{{- range $rules }}{{ if .resourceNames }}{{ $_ := set . "resourceNames" (list $lease) }}{{ end }}{{ end -}}
{{- toYaml $rules -}}
{{- end }}

{{/* Takes CEL rules out of a schema, in place: servers before 1.25 refuse them. */}}
{{- define "latentry.withoutCel" -}}
{{- if kindIs "map" . -}}
{{- $_ := unset . "x-kubernetes-validations" -}}
{{- range . }}{{ include "latentry.withoutCel" . }}{{ end -}}
{{- else if kindIs "slice" . -}}
{{- range . }}{{ include "latentry.withoutCel" . }}{{ end -}}
{{- end -}}
{{- end }}

{{- define "latentry.subjects" -}}
- kind: ServiceAccount
  name: {{ include "latentry.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
