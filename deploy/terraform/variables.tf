variable "resource_group_name" {
  description = "Resource group of the cluster; vault and identity are created in it too."
  type        = string
}

variable "cluster_name" {
  description = "An AKS cluster with the OIDC issuer on."
  type        = string
}

variable "key_vault_name" {
  description = "Globally unique name of the vault to create: 3 to 24 letters, digits and hyphens."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z][-A-Za-z0-9]{1,22}[A-Za-z0-9]$", var.key_vault_name))
    error_message = "Use 3 to 24 letters, digits and hyphens, a letter first."
  }
}

variable "secret_value" {
  description = "What the pod will read. It is sent to the vault and not stored in the state."
  type        = string
  sensitive   = true
  ephemeral   = true
  default     = "Hello!"
}

variable "secret_value_version" {
  description = "Increase it when secret_value has changed: Terraform cannot detect that."
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
  description = "Repository to which the image of the provider was pushed."
  type        = string
}

variable "image_tag" {
  description = "Tag of that image."
  type        = string
}

variable "driver_version" {
  description = "Chart version of the Secrets Store CSI driver; null if the driver is already installed, with the tokenRequests of README.md."
  type        = string
  default     = "1.6.0"
}
