terraform {
  required_version = ">= 1.11" # write-only arguments

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 5.0"
    }
    helm = {
      source  = "hashicorp/helm"
      version = "~> 3.0"
    }
  }
}

provider "azurerm" {
  # Version 5 registers none automatically.
  resource_providers_to_register = ["Microsoft.KeyVault", "Microsoft.ManagedIdentity"]

  features {
    key_vault {
      # A quick start should leave nothing behind; set it to false for real secrets.
      purge_soft_delete_on_destroy = true
    }
  }
}

provider "helm" {
  kubernetes = {
    host                   = local.kube_config.host
    client_certificate     = base64decode(local.kube_config.client_certificate)
    client_key             = base64decode(local.kube_config.client_key)
    cluster_ca_certificate = base64decode(local.kube_config.cluster_ca_certificate)
  }
}
