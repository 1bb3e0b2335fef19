variable "resource_group_name" {
  description = "Resource group of the cluster; vault and identity are made in it too."
  type        = string
}

variable "cluster_name" {
  description = "An AKS cluster with the OIDC issuer on."
  type        = string
}

variable "key_vault_name" {
  description = "Name of the vault to make: 3 to 24 letters, digits and hyphens, not taken by anyone."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z][-A-Za-z0-9]{1,22}[A-Za-z0-9]$", var.key_vault_name))
    error_message = "Use 3 to 24 letters, digits and hyphens, a letter first."
  }
}

variable "secret_value" {
  description = "What the pod will read. It is sent to the vault and not kept in the state."
  type        = string
  sensitive   = true
  ephemeral   = true
  default     = "Hello!"
}

variable "secret_value_version" {
  description = "Raise it when secret_value has changed: Terraform cannot see that by itself."
  type        = number
  default     = 1
}

variable "namespace" {
  description = "Namespace of the ServiceAccount that the identity trusts."
  type        = string
  default     = "default"
}

variable "service_account_name" {
  description = "ServiceAccount that the identity trusts."
  type        = string
  default     = "quick-start"
}

variable "image_repository" {
  description = "Where the image of the provider was pushed to."
  type        = string
}

variable "image_tag" {
  description = "Tag of that image."
  type        = string
}

variable "driver_version" {
  description = "Chart version of the Secrets Store CSI driver; null where the driver is there already, with the tokenRequests of README.md."
  type        = string
  default     = "1.6.0"
}
