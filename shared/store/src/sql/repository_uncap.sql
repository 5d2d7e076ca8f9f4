DELETE FROM virtuozo_core.repositories WHERE path = $1
