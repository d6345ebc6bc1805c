"""Export for other programs: trained models, results, and plugins."""
