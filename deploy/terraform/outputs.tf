# What the examples' manifests expect as CLIENT_ID, TENANT_ID and KEYVAULT_NAME.

output "client_id" {
  value = azurerm_user_assigned_identity.quick_start.client_id
}

output "tenant_id" {
  value = data.azurerm_client_config.current.tenant_id
}

output "key_vault_name" {
  value = azurerm_key_vault.this.name
}
