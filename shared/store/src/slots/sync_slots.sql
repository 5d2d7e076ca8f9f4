-- Keeps the slots of each node of a host ($1; NULL: of all) equal to its cap. A surplus slot in use goes away when one is left.
SELECT virtuozo_core.sync_slots($1)
