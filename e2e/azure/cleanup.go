package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

const cleanUpAttempts = 30

// cleanUp deletes the resource group and purges the vaults, whatever of them there is. Azure may
// refuse to delete a group while a command that was interrupted continues in it, so it retries.
func (t *trial) cleanUp(ctx context.Context) error {
	return t.eventually(ctx, cleanUpAttempts, func(ctx context.Context) error {
		exists, err := t.az(ctx, "group", "exists", "--name", t.group)
		if err != nil {
			return err
		}
		if exists == "true" {
			t.say("deleting resource group %s, which takes about 10 minutes", t.group)
			if _, err := t.az(ctx, "group", "delete", "--name", t.group, "--yes"); err != nil {
				return err
			}
		}
		deleted, err := t.az(ctx, "keyvault", "list-deleted", "--resource-type", "vault", "--query", "[].name", "-o", "tsv")
		if err != nil {
			return err
		}
		for _, vault := range t.vaults() {
			if slices.Contains(strings.Fields(deleted), vault) {
				if _, err := t.az(ctx, "keyvault", "purge", "--name", vault, "--location", t.location); err != nil {
					return fmt.Errorf("vault %s: %w", vault, err)
				}
			}
		}
		return nil
	})
}
