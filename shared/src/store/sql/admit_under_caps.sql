SELECT virtuozo_core.admit_under_caps()
