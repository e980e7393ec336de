/* What only the page knows: which checkpoint is selected, whether there is a picture, what the prompt and the sampler
   are. Ditail's panel asks the server to put it into a sentence whenever something of it has changed.

   Without this file nothing else is lost: the server then says what it knows by itself. */
(function() {
    "use strict";

    const TABS = ["txt2img", "img2img"];
    const EVERY = 400; // milliseconds between two looks at the page
    const PATIENCE = 4000; // milliseconds until what was not answered is asked again
    const asked = {}; // by tab, what the server was asked last, with its number
    const made = {}; // by tab, the inversions that generations have used
    const first = {}; // img2img's denoising strength as the page had it, and as it was before it was raised

    const find = (selector) => gradioApp().querySelector(selector);
    const value = (selector) => find(selector)?.value ?? "";
    const number = (selector) => Number(value(`${selector} input[type=number]`)) || 0;
    const target = () => value("#setting_sd_model_checkpoint input, .model_selection input"); // the latter is Forge's
    const panel = (tab) => find(`#script_${tab}_ditail_enabled`);
    const box = (tab) => panel(tab)?.querySelector(".input-accordion-checkbox");

    function picture(tab) {
        if (tab === "txt2img") return find("#script_txt2img_ditail_picture img");
        const names = ["img2img_image", "img2img_sketch", "img2maskimg", "inpaint_sketch", "img_inpaint_base"];
        const place = names[get_tab_index("mode_img2img")];
        if (!place) return panel(tab); // the Batch tab has a folder of them
        if (find(`#${place} .forge-image-container`)) return find(`#${place} .forge-image[src]`); // Forge's own editor
        return find(`#${place} img, #${place} canvas`);
    }

    function facts(tab) {
        const known = {
            target: target(),
            picture: picture(tab) !== null,
            prompt: value(`#${tab}_prompt textarea`).trim() !== "",
            steps: number(`#${tab}_steps`),
            sampler: value(`#${tab}_sampling input`),
            images: number(`#${tab}_batch_count`) * number(`#${tab}_batch_size`),
            kept: made[tab]?.has(inversion(tab)) ?? false,
        };
        if (tab === "img2img") {
            known.strength = number("#img2img_denoising_strength");
            known.mask = get_tab_index("mode_img2img") >= 2; // Inpaint, its two relatives, and Batch, which may have some
            if (first.before !== undefined && known.strength === 1) known.raised = first.before;
        }
        return known;
    }

    /* Everything that an inversion depends on, as far as the page knows it. */
    function inversion(tab) {
        const controls = ["source_checkpoint", "source_vae", "positive_scale", "negative_scale", "inversion_rule",
            "refinements", "inversion_prompt", "inversion_negative_prompt"].map((name) => settings(tab, name));
        const own = controls[6].trim() !== "";
        const main = own ? "" : value(`#${tab}_prompt textarea`) + value(`#${tab}_neg_prompt textarea`);
        const sizes = ["steps", "width", "height", "denoising_strength"].map((name) => number(`#${tab}_${name}`));
        const source = picture(tab)?.src ?? "";
        const seen = `${source.length}:${source.slice(-64)}`;
        const same = controls[0].startsWith("same as target") ? target() : "";
        return JSON.stringify([controls, main, sizes, seen, same, value(`#${tab}_sampling input`)]);
    }

    function settings(tab, name) {
        const inputs = find(`#script_${tab}_ditail_${name}`)?.querySelectorAll("input, textarea") ?? [];
        return [...inputs].map((input) => input.type === "radio" || input.type === "checkbox"
            ? (input.checked ? input.value : "") : input.value).join();
    }

    function everything(tab) {
        const inputs = [...panel(tab).querySelectorAll("input, textarea")].filter((one) => one.type !== "file");
        return inputs.map((one) => one.type === "radio" || one.type === "checkbox" ? one.checked : one.value).join();
    }

    /* After a generation, a suggestion or a preview less has to be loaded and inverted. */
    function results(tab) {
        const said = ["suggestion", "preview_words"].map((name) => find(`#script_${tab}_ditail_${name}`)?.textContent);
        return find(`#${tab}_gallery img`)?.src + said.join();
    }

    window.ditailFacts = (tab) => JSON.stringify({...facts(tab), number: asked[tab]?.number ?? 0});

    function look() {
        const tab = TABS.find((name) => find(`#tab_${name}`)?.offsetParent);
        if (!tab || !panel(tab)) return;
        nameTheLong(tab);
        const open = panel(tab).querySelector(".label-wrap.open");
        if (!open && !box(tab)?.checked) return;
        const now = JSON.stringify(facts(tab)) + everything(tab) + results(tab);
        const last = asked[tab];
        if (last && now === last.now && (answered(tab, last.number) || Date.now() < last.again)) return;
        asked[tab] = {now, number: (last?.number ?? 0) + 1, again: Date.now() + PATIENCE};
        find(`#script_${tab}_ditail_ask`)?.click();
    }

    /* The page drops a click while the server has not answered the one before, so each question has a number. */
    function answered(tab, number) {
        return find(`#script_${tab}_ditail_sentence [data-number]`)?.dataset.number === String(number);
    }

    /* A name that its box has no room for is its tooltip. */
    function nameTheLong(tab) {
        for (const one of panel(tab).querySelectorAll("input[role=listbox], .wrap-inner input")) {
            if (one.title !== one.value) one.title = one.value;
        }
    }

    /* Only the page knows that a person, and not a pasted infotext, has switched Ditail on. The first time img2img's
       denoising strength becomes 1, if it is still what the page had; when Ditail is switched off it comes back. */
    function switched(event) {
        const bar = event.target.closest?.(".label-wrap");
        if (!event.isTrusted || !bar || bar.parentElement !== panel("img2img")) return;
        setTimeout(() => {
            const slider = find("#img2img_denoising_strength input[type=number]");
            const on = box("img2img")?.checked;
            if (on && first.before === undefined && Number(slider.value) === first.strength && first.strength < 1) {
                first.before = first.strength;
                set(slider, 1);
            } else if (!on && first.before !== undefined && first.given === undefined) {
                first.given = true;
                if (Number(slider.value) === 1) set(slider, first.before);
                first.before = undefined;
                first.strength = undefined; // once is enough
            }
        }, 100);
    }

    function set(input, what) {
        input.value = what;
        updateInput(input);
    }

    function remember(event) {
        for (const tab of TABS) {
            if (event.target.id !== `${tab}_generate` || !box(tab)?.checked) continue;
            (made[tab] ??= new Set()).add(inversion(tab));
        }
    }

    onUiLoaded(() => {
        first.strength = number("#img2img_denoising_strength");
        gradioApp().addEventListener("click", switched, true);
        gradioApp().addEventListener("click", remember, true);
        for (const tab of TABS) {
            find(`#script_${tab}_ditail_sentence`)?.setAttribute("aria-live", "polite");
        }
        setInterval(look, EVERY);
    });
})();
