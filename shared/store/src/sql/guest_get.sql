SELECT * FROM virtuozo_core.guest_details WHERE id = $1
