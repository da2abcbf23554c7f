{{/* What the operator may do in a watched namespace, and why. docs/installation.md has the same as a table. */}}
{{- define "postfleet.operator.rules" -}}
# What it looks after: lists as a whole, and watches that tell what changed. It never writes a spec.
- apiGroups: [postfleet.io]
  resources: [jobpools, sendingnodes]
  verbs: [list, watch]
# What it has decided and found.
- apiGroups: [postfleet.io]
  resources: [jobpools/status, sendingnodes/status]
  verbs: [patch]
# To set blockOwnerDeletion, where the admission plugin OwnerReferencesPermissionEnforcement is on.
- apiGroups: [postfleet.io]
  resources: [jobpools/finalizers]
  verbs: [update]
# The workers' Deployments: get one that is in the way or is given to another scaler, apply, and delete those of pools
# that no longer want them. Server-side apply is a patch, and a create where there is none yet.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
# How many workers there are.
- apiGroups: [apps]
  resources: [deployments/scale]
  verbs: [patch]
# Workers: how many are Ready, how long one takes to start, which have gone; and the mark of those that go first.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
# What happened to a pool or a node. A repeated one is counted up.
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{- define "postfleet.operator.secretRules" -}}
# Nodes' logins: read where a SendingNode names them, watched so that a change is heard. They are handed to workers in
# Secrets <pool>-nodes, which are made, changed and deleted. RBAC cannot tell these from others of the namespace.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
{{- end -}}
