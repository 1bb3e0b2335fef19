data "azurerm_client_config" "current" {}

data "azurerm_kubernetes_cluster" "this" {
  name                = var.cluster_name
  resource_group_name = var.resource_group_name
}

locals {
  kube_config = data.azurerm_kubernetes_cluster.this.kube_config[0]
  audience    = "api://AzureADTokenExchange"
}

# The vault and a secret.

resource "azurerm_key_vault" "this" {
  name                       = var.key_vault_name
  location                   = data.azurerm_kubernetes_cluster.this.location
  resource_group_name        = var.resource_group_name
  tenant_id                  = data.azurerm_client_config.current.tenant_id
  sku_name                   = "standard"
  rbac_authorization_enabled = true
}

resource "azurerm_role_assignment" "writer" {
  scope                = azurerm_key_vault.this.id
  role_definition_name = "Key Vault Secrets Officer"
  principal_id         = data.azurerm_client_config.current.object_id
}

resource "azurerm_key_vault_secret" "my_secret" {
  name             = "my-secret"
  key_vault_id     = azurerm_key_vault.this.id
  value_wo         = var.secret_value
  value_wo_version = var.secret_value_version

  depends_on = [azurerm_role_assignment.writer]
}

# The identity, its role and its federated credential.

resource "azurerm_user_assigned_identity" "quick_start" {
  name                = var.service_account_name
  location            = data.azurerm_kubernetes_cluster.this.location
  resource_group_name = var.resource_group_name
}

# On the one secret, not on the vault. README.md, "Rights in the vault", has keys and certificates.
resource "azurerm_role_assignment" "reader" {
  scope                = azurerm_key_vault_secret.my_secret.resource_versionless_id
  role_definition_name = "Key Vault Secrets User"
  principal_id         = azurerm_user_assigned_identity.quick_start.principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_federated_identity_credential" "quick_start" {
  name                      = "${var.namespace}-${var.service_account_name}"
  user_assigned_identity_id = azurerm_user_assigned_identity.quick_start.id
  issuer                    = data.azurerm_kubernetes_cluster.this.oidc_issuer_url
  subject                   = "system:serviceaccount:${var.namespace}:${var.service_account_name}"
  audience                  = [local.audience]
}

# The driver, which requests the pods' tokens from kubelet, and the provider.

resource "helm_release" "driver" {
  count = var.driver_version == null ? 0 : 1

  name       = "csi-secrets-store"
  namespace  = "kube-system"
  repository = "https://kubernetes-sigs.github.io/secrets-store-csi-driver/charts"
  chart      = "secrets-store-csi-driver"
  version    = var.driver_version

  values = [yamlencode({
    tokenRequests = [{ audience = local.audience }]
    syncSecret    = { enabled = true }
  })]
}

resource "helm_release" "provider" {
  name      = "akv-csi-provider"
  namespace = "kube-system"
  chart     = "${path.module}/../chart"

  values = [yamlencode({
    linux = {
      image = {
        repository = var.image_repository
        tag        = var.image_tag
      }
    }
  })]

  depends_on = [helm_release.driver]
}
