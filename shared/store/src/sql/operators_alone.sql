SELECT virtuozo_core.alone()
